"""Integers: where rounding goes (quantize_points.py), by what scales (calibrate.py), as data (quantization_plan.py)."""
