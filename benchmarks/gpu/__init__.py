"""Measurements for a machine with an accelerator, within minutes."""
