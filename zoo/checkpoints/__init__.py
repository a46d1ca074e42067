"""Checkpoints: their files, writing, reading, and PyTorch's."""
