"""An implicit representation: a signal as a function of time."""
