"""Multiscale deep equilibrium classifier (Bai, Koltun, Kolter, NeurIPS 2020)."""
