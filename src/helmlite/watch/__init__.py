"""Reserved for watching a road on top of `runtime`; empty so far."""
