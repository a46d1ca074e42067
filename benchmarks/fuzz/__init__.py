"""`python -m benchmarks.fuzz`: random problems whose answers are known, or that have none.

A *solve* is one call of a compiled `jdeq.deq` (backward: of its vector-Jacobian product) on a batch
of samples of one family, each sample with parameters, a start and a scale of its own. What a solve
says of its samples is judged by NumPy in float64: see `judge`.
"""
