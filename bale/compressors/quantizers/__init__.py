"""Lossy codecs that give an array fewer levels than floats have, element by element."""
