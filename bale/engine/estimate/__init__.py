"""Before anything is written: the resolved plan of a source, and what it is expected to come to."""
