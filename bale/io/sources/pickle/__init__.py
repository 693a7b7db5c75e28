"""Pickles, read without running them: values as inert records, and the numpy arrays in them."""
