"""What a run writes down for people, and what is shown of it."""
