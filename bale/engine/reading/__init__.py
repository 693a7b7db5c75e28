"""Reading: checkpoints, archives, bases and statistics, tensor by tensor."""
