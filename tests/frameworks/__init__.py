"""The real frameworks, in an environment of their own: ``make test-frameworks``."""
