"""Reserved for searching recipes; empty so far."""
