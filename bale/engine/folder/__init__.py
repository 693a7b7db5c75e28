"""Folders: each weights file is an archive, every other file a copy."""
