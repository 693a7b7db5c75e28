"""Every bit of an array given values that are near: those of a quantized layer, or of a base."""
