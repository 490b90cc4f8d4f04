"""Arithmetic on one convolution's kernel: factors, ranks, codebooks, masks."""
