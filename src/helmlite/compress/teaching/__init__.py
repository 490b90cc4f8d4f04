"""What a student copies (distill_losses.py, feature_losses.py), and from whom (teacher.py)."""
