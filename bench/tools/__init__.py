"""Tools for developers that need a GPU."""
