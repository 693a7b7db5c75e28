"""Reports: sizes and errors, tensor by tensor."""
