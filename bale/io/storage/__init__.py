"""Storage of bytes: files that are read whole, files and folders that appear whole or not at all."""
