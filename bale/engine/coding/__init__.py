"""Encoding and decoding of one unit: three ways, each with its encoder and its decoder side by side."""
