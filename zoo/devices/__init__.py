"""Where a run computes: devices, processes, and what is split over them."""
