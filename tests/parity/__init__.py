"""Values, against an oracle in float64 and against the official package."""
