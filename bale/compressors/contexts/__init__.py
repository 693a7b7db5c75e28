"""Row-column context models: how large each element is likely to be, from a number for each row and each column."""
