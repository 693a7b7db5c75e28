"""The engine: the only place where compressors and io meet."""
