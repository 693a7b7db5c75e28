"""Input and output: checkpoint readers, the archive, atomic writing. Stores bytes, knows no codecs."""
