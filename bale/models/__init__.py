"""Collecting statistics of a model's inputs, as docs/statistics.md describes them: what the verb `stats` does."""
