"""Before anything is written: the resolved plan of a source, and its predicted sizes and errors."""
