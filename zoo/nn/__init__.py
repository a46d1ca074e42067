"""Layers, initial weights and kinds of variables that several models use."""
