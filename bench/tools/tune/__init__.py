"""Finds the best constants of the CUDA kernels on a GPU: ``python -m bench.tools.tune``.

``time_step.cpp`` runs the CUDA step alone, without Python and torch. It is compiled once for each
variant, with other values of the macros in ``csrc/cuda/tuning.h``, and the variants alternate.
"""
