"""Writing what other software loads: one file for each format, behind one protocol (`target`)."""
