"""Planning: a decision for each tensor, from names, specs and rules alone; no data."""
