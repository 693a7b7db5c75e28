"""Checkpoint compression: lossless by default, quantized or low-rank on request."""
