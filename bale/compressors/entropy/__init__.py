"""Entropy coders: tokens as bits."""
