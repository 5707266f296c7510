"""The kernels themselves, without a GPU: emulated, sanitized, as machine code."""
