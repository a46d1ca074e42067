"""What is saved comes back, or is found to be damaged; never anything else."""

import errno
import pathlib
import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.manifest import Damaged, read_facts, verified_facts, write_manifest
from zoo.checkpoints.names import named
from zoo.checkpoints.saving import Saver
from zoo.errors import UserError
from zoo.folder import RunFolder

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[3]


def state(step: int):
    """Arrays of several kinds that tell the step."""
    return {
        "w": jnp.full((30, 40), step, jnp.float32),
        "key": jax.random.key(step),
        "count": np.int32(step),
        "bf16": jnp.full(3, step, jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
    }


def fill(out: pathlib.Path, scores, *, keep: int = 10) -> None:
    """Saves a checkpoint of each step with its score."""
    with Saver(out, keep=keep, start=0) as saver:
        for step, score in scores.items():
            saver.save(step, state(step), {"a": 1}, {"words": ["x", "y"]}, score=score)


def steps(out: pathlib.Path) -> list[int]:
    return [int(path.name) for path in RunFolder(out).checkpoint_paths()]


def assert_is_state_of(step: int, restored) -> None:
    for name, value in state(step).items():
        got = restored[name]
        assert (got.shape, got.dtype) == (value.shape, value.dtype)
        data = (lambda a: jax.random.key_data(a)) if name == "key" else np.asarray
        np.testing.assert_array_equal(data(got), data(value))


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


@pytest.mark.parametrize(("layout", "says"), [(None, "earlier version"), (3, "later version")])
def test_another_layout_is_refused_with_what_to_do(tmp_path, layout, says):
    fill(tmp_path, {1: 0.5})
    path = tmp_path / "checkpoints/1"
    facts = {k: v for k, v in read_facts(path).items() if k != "layout"}
    (path / "manifest.json").unlink()
    write_manifest(path, facts | ({} if layout is None else {"layout": layout}))
    for use in (find_checkpoint, lambda out: find_checkpoint(out, best=True)):
        with pytest.raises(UserError, match=f"checkpoints/1: is of an? {says}"):
            use(tmp_path)
    with pytest.raises(UserError, match=says):
        Saver(tmp_path, keep=1, start=0)  # and never deletes it
    assert steps(tmp_path) == [1]


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, pathlib.Path.unlink])
def test_damage_to_any_file_is_found_or_harmless(tmp_path, damage, capsys):
    fill(tmp_path / "whole", {1: None, 2: None})
    names = [p.relative_to(tmp_path) for p in (tmp_path / "whole").rglob("2/**/*") if p.is_file()]
    used = {}
    for name in names:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "run")
        damage(tmp_path / "run" / name.relative_to("whole"))
        found = find_checkpoint(tmp_path / "run")
        used[name.name] = found.step
        assert_is_state_of(found.step, found.restore(state(0)))
        said = capsys.readouterr().err
        assert said == "" if found.step == 2 else ("2 is damaged" in said and name.name in said)
    assert used.pop("_CHECKPOINT_METADATA") == used.pop("commit_success.txt") == 2  # of no use
    assert set(used.values()) == {1} and len(used) > 5


def test_if_all_are_damaged_all_are_named(tmp_path):
    fill(tmp_path, {1: None, 2: None})
    for step in (1, 2):
        truncate(tmp_path / f"checkpoints/{step}/manifest.json")
    with pytest.raises(UserError, match=r"checkpoints/2 is damaged.*checkpoints/1 is damaged"):
        find_checkpoint(tmp_path)
    (tmp_path / "checkpoints/2").rename(tmp_path / "checkpoints/3")
    with pytest.raises(UserError, match="no such folder"):
        find_checkpoint(tmp_path / "nowhere")


def test_a_checkpoint_under_another_name_is_not_taken_for_it(tmp_path, capsys):
    fill(tmp_path, {1: None, 2: None})
    (tmp_path / "checkpoints/2").rename(tmp_path / "checkpoints/5")
    assert find_checkpoint(tmp_path).step == 1
    assert "is the checkpoint of step 2 under another name" in capsys.readouterr().err


def test_what_a_killed_process_left_is_cleaned_up(tmp_path):
    fill(tmp_path, {1: None, 2: None})
    folder = tmp_path / "checkpoints"
    for name in ("3.orbax-checkpoint-tmp", "removed-0"):
        shutil.copytree(folder / "2", folder / name)
    shutil.copytree(folder / "2", folder / "4")  # damaged: its name is another
    assert find_checkpoint(folder / "2").step == 2
    with Saver(tmp_path, keep=2, start=2):
        assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]


def test_a_later_checkpoint_is_never_deleted(tmp_path):
    fill(tmp_path, {1: None, 2: None})
    with pytest.raises(UserError, match="2: is a later checkpoint than step 1 of this run"):
        Saver(tmp_path, keep=2, start=1)
    assert steps(tmp_path) == [1, 2]


def test_training_goes_on_while_a_copy_is_written(tmp_path, monkeypatch):
    """The arrays are donated to the next step before anything is on the disk."""
    import threading

    import zoo.checkpoints.saving

    go_on = threading.Event()
    write = zoo.checkpoints.saving.write_manifest

    def late(*args, **kwargs):
        assert go_on.wait(60)
        write(*args, **kwargs)

    monkeypatch.setattr(zoo.checkpoints.saving, "write_manifest", late)
    step = jax.jit(lambda w: [a + 1 for a in w], donate_argnums=0)
    w = step([jnp.zeros(1_000_000), jnp.zeros(3)])
    with Saver(tmp_path, keep=2, start=0) as saver:
        saver.save(1, w, {}, {})
        for _ in range(20):
            old, w = w, step(w)
            assert all(a.is_deleted() for a in old)
        assert steps(tmp_path) == []
        go_on.set()
    saved = find_checkpoint(tmp_path).restore(w)
    assert all(np.all(a == 1) for a in saved) and all(np.all(a == 21) for a in w)


def test_a_full_disk_is_said_in_one_line(tmp_path, monkeypatch):
    """In the background, where the step that saved has long been over."""
    import zoo.checkpoints.saving

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    fill(tmp_path, {1: None})
    monkeypatch.setattr(zoo.checkpoints.saving, "write_manifest", full)
    with Saver(tmp_path, keep=2, start=1) as saver:
        saver.save(2, state(2), {}, {})
        with pytest.raises(
            UserError, match=r"2: the .* \(No space left on device\).*checkpoints/1"
        ):
            saver.wait()
        monkeypatch.undo()
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]  # room again
        saver.save(2, state(2), {}, {})
    assert_is_state_of(2, find_checkpoint(tmp_path).restore(state(0)))


def test_the_limit_of_a_real_disk(tmp_path):
    """Files may not grow beyond a limit, as far as the operating system is concerned."""
    program = f"""
        import resource, pathlib, jax.numpy as jnp, numpy as np
        from zoo.checkpoints.checkpoint import find_checkpoint
        from zoo.errors import UserError
        from zoo.checkpoints.saving import Saver
        out = pathlib.Path({str(tmp_path)!r})
        noise = lambda n: jnp.asarray(np.random.default_rng(0).normal(size=n))
        with Saver(out, keep=2, start=0) as saver:
            saver.save(1, [noise(10)], {{}}, {{}})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with Saver(out, keep=2, start=1) as saver:
                saver.save(2, [noise(1_000_000)], {{}}, {{}})
        except UserError as e:
            print(e)
        names = sorted(p.name for p in (out / "checkpoints").iterdir())
        print("left", find_checkpoint(out).step, *names)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said, left = run.stdout.splitlines()
    assert "checkpoints/2: the checkpoint cannot be written" in said, run.stderr
    assert "File too large" in said and "the newest there is" in said
    assert left == "left 1 1"


def test_a_failed_write_says_nothing_besides(tmp_path):
    """Many arrays: those that come after the one that failed find their event loop closed."""
    program = f"""
        import resource, pathlib, jax.numpy as jnp, numpy as np
        from zoo.errors import UserError
        from zoo.checkpoints.saving import Saver
        noise = jnp.asarray(np.random.default_rng(0).normal(size=100_000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        try:
            with Saver(pathlib.Path({str(tmp_path)!r}), keep=2, start=0) as saver:
                saver.save(2, [noise] * 30, {{}}, {{}})
        except UserError as e:
            print(e)
    """
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import logging; logging.disable(logging.ERROR)\n" + textwrap.dedent(program),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    (said,) = run.stdout.splitlines()
    assert "checkpoints/2: the checkpoint cannot be written (File too large)" in said
    assert not run.stderr


def test_what_else_nobody_could_raise_is_still_printed(capsys):
    import logging
    import types

    from zoo.checkpoints.quiet import _is_news, silence_failed_writes

    silence_failed_writes()
    make = lambda text: types.SimpleNamespace(exc_value=RuntimeError(text))
    sys.unraisablehook(make("Event loop is closed"))  # pyright: ignore
    record = lambda text: logging.LogRecord("asyncio", 40, "", 0, text, (), None)
    assert not _is_news(record("Task exception was never retrieved <orbax>"))
    assert _is_news(record("Task exception was never retrieved <mine>"))


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


def test_a_manifest_knows_its_own_content(tmp_path):
    fill(tmp_path, {1: 0.5})
    path = tmp_path / "checkpoints/1/manifest.json"
    path.write_text(path.read_text().replace("0.5", "0.7"))
    with pytest.raises(Damaged, match="manifest.json: the content is not what was written"):
        verified_facts(path.parent)
