"""The Triton backend; ``backend`` is its entry, the kernels are imported when first needed."""
