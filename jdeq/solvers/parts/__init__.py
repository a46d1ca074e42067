"""What solvers are made of: histories, small systems, inverse Jacobians, a line search."""
