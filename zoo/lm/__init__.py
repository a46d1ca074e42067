"""DEQ transformer language models."""
