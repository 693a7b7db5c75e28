"""Conditional coding: every bit of an array given a reference, like a quantized layer or the tensor of a base."""
