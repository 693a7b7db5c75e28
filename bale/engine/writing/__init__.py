"""Writing an archive: units encoded, appended, read back."""
