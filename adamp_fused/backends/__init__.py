"""The ways to perform a step, behind one protocol; ``registry`` chooses among them."""
