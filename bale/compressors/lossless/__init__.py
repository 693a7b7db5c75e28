"""Every bit of any array, without knowing more of it."""
