"""``python -m bench paper``: statements of the AdamP paper, replayed with these optimizers.

Source of every statement: Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on
Scale-invariant Weights", ICLR 2021 (arXiv:2006.08217v3). One file per experiment; each measures
records, and judges from the records alone whether the statement holds here.
"""
