"""Published equilibrium models on one trainer; see `python -m zoo --help`."""
