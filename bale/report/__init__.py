"""Reports: what was saved and what it cost, tensor by tensor."""
