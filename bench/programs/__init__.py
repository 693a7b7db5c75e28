"""Whole processes: bale's verbs by pipeline, peers beside them, and how their cost grows."""
