"""An implicit graph network: labels of nodes."""
