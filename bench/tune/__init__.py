"""Which constants of the CUDA kernels are best on a GPU, by the clock: ``python -m bench.tune``.

The program ``time_step.cpp`` runs the CUDA step alone, without Python and torch. It is compiled
once for each variant (a few edited lines of the sources, in a copy), and the variants take turns.
"""
