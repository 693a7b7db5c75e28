"""Comparing two sets of tensors, block by block."""
