"""Files of torch.save: ZIP and legacy, read without running a pickle."""
