"""The replayed statements of the paper: what is measured, how it is judged, and by whom else."""
