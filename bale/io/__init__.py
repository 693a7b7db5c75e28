"""Where values come from and go: checkpoint readers, the archive, atomic writing. Stores bytes, knows no codecs."""
