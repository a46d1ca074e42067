"""The version, stated once: packaging reads it here."""

__version__ = "0.1.0"
