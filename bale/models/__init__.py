"""Collecting statistics of a model's inputs, as docs/statistics.md describes them: the work of the verb `stats`."""
