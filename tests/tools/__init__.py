"""The benchmark, the checks on a GPU, the build, and what the README says."""
