"""Trellis coded quantization with an entropy coder."""
