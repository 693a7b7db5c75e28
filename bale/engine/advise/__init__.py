"""Says what is in a checkpoint and what to do with it, from one look at a sample of each tensor."""
