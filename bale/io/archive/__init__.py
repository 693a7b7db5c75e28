"""The bale archive: its header, its manifest, its stored bytes."""
