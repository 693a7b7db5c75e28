"""Fewer numbers than elements: matrices and tensors as products of factors."""
