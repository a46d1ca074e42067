"""The speed benchmark: the same solves by jdeq, TorchDEQ, jaxopt and optimistix."""
