"""Which channels can go together (channel_groups.py), how much they matter (importance.py), which go (ranking.py)."""
