"""Coding a unit and decoding it: three ways, each with its encoder and its decoder side by side."""
