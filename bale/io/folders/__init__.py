"""Folders of weights: which files they hold, what these are, and the record of a compressed one."""
