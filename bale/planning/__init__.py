"""Planning: what is done with each tensor, from names, specs and rules alone; no data."""
