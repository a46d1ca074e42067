"""Looking into compiled functions."""

import jax


def equations(jaxpr):
    """All equations of a jaxpr, those of inner ones included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            if hasattr(value, "eqns"):
                yield from equations(value)
