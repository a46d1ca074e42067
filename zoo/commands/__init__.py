"""The commands of `python -m zoo`, a file each."""
