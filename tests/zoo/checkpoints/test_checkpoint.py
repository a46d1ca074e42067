"""What is saved comes back, under its name and where the state lies; else it is refused."""

import pathlib
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.zoo.checkpoints.made import assert_is_state_of, fill, state, steps
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.names import named
from zoo.checkpoints.saving import Saver
from zoo.errors import UserError

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[3]


def test_everything_comes_back(tmp_path):
    fill(tmp_path, {3: None, 6: 0.5})
    found = find_checkpoint(tmp_path)
    assert (found.step, found.score, found.config) == (6, 0.5, {"a": 1})
    assert found.meta == {"words": ["x", "y"]}
    assert_is_state_of(6, found.restore(state(0)))
    assert_is_state_of(6, found.restore(jax.eval_shape(lambda: state(0))))
    for folder in (tmp_path / "checkpoints", tmp_path / "checkpoints/3"):
        assert find_checkpoint(folder).step == (6 if folder.name == "checkpoints" else 3)


@pytest.mark.parametrize(
    ("scores", "keep", "left", "best"),
    [
        ({1: 0.1, 2: 0.9, 3: 0.5, 4: None, 5: 0.9}, 2, [2, 4, 5], 2),
        ({1: 0.1, 2: 0.2, 3: 0.3}, 1, [3], 3),
        ({1: -5.0, 2: None, 3: None}, 1, [1, 3], 1),
    ],
)
def test_the_newest_are_kept_and_the_best_besides(tmp_path, scores, keep, left, best):
    fill(tmp_path, scores, keep=keep)
    assert steps(tmp_path) == left
    assert find_checkpoint(tmp_path, best=True).step == best
    assert find_checkpoint(tmp_path).step == max(scores)
    with Saver(tmp_path, keep=keep, start=9) as saver:  # a later run knows the best one
        assert not saver.best(scores[best]) and saver.best(scores[best] + 0.1)
        assert not saver.best(None)


def test_without_an_evaluation_none_is_the_best(tmp_path):
    fill(tmp_path, {1: None})
    with pytest.raises(UserError, match="no checkpoint here was evaluated"):
        find_checkpoint(tmp_path, best=True)


def test_a_state_of_other_shapes_is_refused(tmp_path):
    fill(tmp_path, {1: None})
    wide = r"different w \(float32\[30, 40\] there, float32\[30, 41\] here\)$"
    with pytest.raises(UserError, match=wide):
        find_checkpoint(tmp_path).restore(state(0) | {"w": jnp.zeros((30, 41))})
    with pytest.raises(UserError, match="checkpoints/1: .*: surplus bf16, count, empty, key$"):
        find_checkpoint(tmp_path).restore({"w": jnp.zeros((30, 40))})
    with pytest.raises(UserError, match=": missing b, other.0$"):
        more = {"b": jnp.zeros(1), "other": [jnp.zeros(1)]}
        find_checkpoint(tmp_path).restore(state(0) | more)
    with pytest.raises(UserError, match=r"missing x0, x1, x10, .*, x15 and 12 more; surplus bf16"):
        find_checkpoint(tmp_path).restore({f"x{i}": jnp.zeros(1) for i in range(20)})


def test_arrays_are_found_by_name_whatever_their_order(tmp_path):
    """A renamed array is missing under its new name; it never gets another one's values."""
    saved = {"ln1": jnp.full(3, 1.0), "ln2": jnp.full(3, 2.0), "mlp": jnp.full(3, 3.0)}
    with Saver(tmp_path, keep=1, start=0) as saver:
        saver.save(1, {"params": nnx.State({"a": saved})}, {}, {})
    found = find_checkpoint(tmp_path)
    renamed = {"norm_attention": saved["ln1"], "ln2": saved["ln2"], "mlp": saved["mlp"]}
    both = "missing params.a.norm_attention; surplus params.a.ln1$"
    with pytest.raises(UserError, match=both):
        found.restore({"params": nnx.State({"a": renamed})})
    back = found.restore({"params": nnx.State({"a": dict(reversed(saved.items()))})})
    for name, array in saved.items():
        np.testing.assert_array_equal(back["params"]["a"][name], array)


def test_names_are_never_confused(tmp_path):
    """Dots, slashes and percent signs in a key, and keys that begin alike."""
    keys = ("a.b", "a/b", "a%2Eb", "a.b/c.d", "ä b", "x", "xy", "0")
    tree = {key: jnp.full(2, i) for i, key in enumerate(keys)} | {"a": {"b": jnp.full(2, -1)}}
    assert len(named(tree)) == len(keys) + 1
    with Saver(tmp_path, keep=1, start=0) as saver:
        saver.save(1, tree, {}, {})
    back = find_checkpoint(tmp_path).restore(tree)
    jax.tree.map(np.testing.assert_array_equal, back, tree)
    with pytest.raises(UserError, match="missing a.b.c; surplus a.b/c.d$"):
        find_checkpoint(tmp_path).restore(
            {key: tree[key] for key in tree if key != "a.b/c.d"} | {"a.b.c": jnp.zeros(2)}
        )


def test_a_variable_has_the_name_of_its_path():
    """Whatever Flax calls the array inside, and whatever is around it."""
    carried = nnx.Variable({"z": jnp.zeros(1), "filled": jnp.zeros(1)})
    moments = (optax.ScaleByAdamState(jnp.zeros(()), nnx.State({"w": nnx.Param(jnp.ones(2))}), {}),)
    tree = {"rest": nnx.State({"memory": carried}), "opt": moments}
    assert list(named(tree)) == ["opt.0.count", "opt.0.mu.w", "rest.memory.filled", "rest.memory.z"]
    assert list(map(id, named(tree).values())) == list(map(id, jax.tree.leaves(tree)))


@pytest.mark.parametrize("n", [1, 2])
def test_restored_arrays_lie_where_those_of_the_state_do(tmp_path, n):
    """Saved from one device, restored onto a mesh, or the other way round."""
    program = f"""
        import pathlib, sys, jax, jax.numpy as jnp, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec as P
        from zoo.checkpoints.checkpoint import find_checkpoint
        from zoo.checkpoints.saving import Saver
        out, part = pathlib.Path({str(tmp_path)!r}), sys.argv[1]
        auto = jax.sharding.AxisType.Auto
        mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(auto,))
        on = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
        like = {{"w": on(jnp.arange(24.).reshape(8, 3), P("d")), "b": on(jnp.arange(3.), P())}}
        if part == "save":
            with Saver(out, keep=1, start=0) as saver:
                saver.save(1, like, {{}}, {{}})
        else:
            empty = jax.tree.map(lambda a: jax.device_put(jnp.zeros_like(a), a.sharding), like)
            back = find_checkpoint(out).restore(empty)
            for name, a in like.items():
                assert back[name].sharding == a.sharding, name
                np.testing.assert_array_equal(back[name], a)
    """
    for part, devices in (("save", n), ("restore", 4 // n)):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program), part],
            cwd=ROOT,
            env={
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
                "JAX_PLATFORMS": "cpu",
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stderr
