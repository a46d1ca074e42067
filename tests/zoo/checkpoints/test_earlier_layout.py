"""Checkpoints of layout 2, where norms had their arrays under dotted paths, are still read."""

import jax.numpy as jnp
import numpy as np
import pytest

import zoo.checkpoints.saving
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.facts import LAYOUT
from zoo.checkpoints.manifest import read_facts
from zoo.checkpoints.saving import Saver
from zoo.errors import UserError

EARLIER = {
    "params": {
        "cell": {"scales": {"blocks.0.conv": jnp.full(3, 1.0), "out": jnp.full(3, 2.0)}},
        "dense": {"scales": {"": jnp.full(3, 3.0)}},
        "scales": {"dense": {"kernel": jnp.full(3, 4.0)}},  # no norm's: a module of this name
    },
    "rest": {"vectors": {"a.b": {"u": jnp.full(3, 5.0), "v": jnp.full(3, 6.0)}}},
}
NOW = {
    "params": {
        "cell": {
            "scales": {
                "blocks": {"0": {"conv": {"kernel": jnp.full(3, 1.0)}}},
                "out": {"kernel": jnp.full(3, 2.0)},
            }
        },
        "dense": {"scales": {"kernel": jnp.full(3, 3.0)}},
        "scales": {"dense": {"kernel": jnp.full(3, 4.0)}},
    },
    "rest": {
        "vectors": {"a": {"b": {"kernel": {"u": jnp.full(3, 5.0), "v": jnp.full(3, 6.0)}}}},
    },
}


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """A run's folder as it was written then."""
    monkeypatch.setattr(zoo.checkpoints.saving, "LAYOUT", 2)
    with Saver(tmp_path, keep=1, start=0) as saver:
        saver.save(1, EARLIER, {}, {})
    return tmp_path


def test_arrays_of_norms_are_found_under_their_earlier_names(earlier):
    checkpoint = find_checkpoint(earlier)
    assert read_facts(checkpoint.path)["layout"] == 2 < LAYOUT
    got = checkpoint.restore(NOW)
    for path, want in (
        (("params", "cell", "scales", "blocks", "0", "conv", "kernel"), 1.0),
        (("params", "cell", "scales", "out", "kernel"), 2.0),
        (("params", "dense", "scales", "kernel"), 3.0),
        (("params", "scales", "dense", "kernel"), 4.0),
        (("rest", "vectors", "a", "b", "kernel", "u"), 5.0),
        (("rest", "vectors", "a", "b", "kernel", "v"), 6.0),
    ):
        leaf = got
        for key in path:
            leaf = leaf[key]
        np.testing.assert_array_equal(leaf, np.full(3, want))


def test_what_is_not_there_is_named_as_it_is_called_now(earlier):
    more = NOW | {"rest": {"vectors": {"c": {"kernel": {"u": jnp.ones(3)}}}}}
    with pytest.raises(UserError, match=r"missing rest\.vectors\.c\.kernel\.u; surplus .*a\.b\.u"):
        find_checkpoint(earlier).restore(more)
