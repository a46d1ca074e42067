"""The solvers that keep the promises."""

import jdeq

SOLVERS = {
    "fixed_point_iter": jdeq.FixedPointIter,
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter,
    "anderson": jdeq.Anderson,
    "broyden": jdeq.Broyden,
}
STOPPING = [s for s in SOLVERS if s != "simple_fixed_point_iter"]
TIGHT = {
    "fixed_point_iter": jdeq.FixedPointIter(max_iter=4000, tol=1e-13),
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter(max_iter=3000),
    "anderson": jdeq.Anderson(max_iter=400, tol=1e-13),
    "broyden": jdeq.Broyden(max_iter=80, tol=1e-13),
}
