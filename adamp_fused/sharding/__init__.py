"""Parameters that are shared out over processes: what is here, and what a step has to be told."""
