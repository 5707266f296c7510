"""What the benchmarks share: timing, workloads, implementations, the byte model and reports."""
