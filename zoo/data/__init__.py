"""Data sets that more than one model uses, and the batches made of them."""
