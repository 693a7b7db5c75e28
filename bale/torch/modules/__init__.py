"""Linear modules whose weights stay compressed in memory."""
