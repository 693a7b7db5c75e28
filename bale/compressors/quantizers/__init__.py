"""Fewer levels than floats have: with loss, element by element or along a path."""
