"""Models that no file of the zoo knows."""
