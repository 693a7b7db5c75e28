"""Doing it: the only place where compressors and io meet."""
