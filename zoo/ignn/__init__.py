"""Implicit graph neural networks (Gu et al., NeurIPS 2020)."""
