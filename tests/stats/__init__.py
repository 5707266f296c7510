"""Tests of what the optimizers tell, of pictures of it, and of explain()."""
