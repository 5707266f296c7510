"""Benchmarks: what a step costs, and what it buys in training. Run ``python -m bench --help``."""
