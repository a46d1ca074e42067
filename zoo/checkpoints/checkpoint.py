"""Checkpoints of a run: the whole state, and what is needed to make sense of it.

A checkpoint is a folder named by its step. It holds all arrays of the state (parameters,
optimiser, statistics) under their names, and as facts of its manifest these names, the
configuration and the data's meta. Its step and the configuration's seed are the position in the
data and in the random numbers: both are functions of these two. `zoo.checkpoints.saving` writes it.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.facts import Facts
from zoo.checkpoints.manifest import Damaged, read_facts, verified_facts
from zoo.checkpoints.names import before_layout_3, described, difference, named
from zoo.errors import UserError
from zoo.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint; `score` is what it is judged by, the greater the better.

    `arrays` says of each array of the state, by its name, which dtype and shape it has.
    """

    path: pathlib.Path
    step: int
    score: float | None
    config: Mapping[str, Any]
    meta: Mapping[str, Any]
    arrays: Mapping[str, str]

    @classmethod
    def read(cls, path: pathlib.Path) -> "Checkpoint":
        """The checkpoint in a folder, every file of which is verified.

        Raises:
            Damaged: a file is not what was written, or the manifest not what it should be.
            UserError: it has another layout than those that this program writes.
        """
        facts = _facts(path, verified_facts(path)).to_dict()
        checkpoint = cls(path, **{k: v for k, v in facts.items() if k != "layout"})
        if path.name != str(checkpoint.step):
            raise Damaged(f"is the checkpoint of step {checkpoint.step} under another name")
        return checkpoint

    def restore(self, like: Any) -> Any:
        """The state, with the structure, shapes, dtypes and shardings of `like`.

        Leaves of `like` are arrays or `jax.ShapeDtypeStruct`; those without a sharding are put on
        the first device, NumPy's stay there. The state may have been saved from other devices.

        Raises:
            UserError: the saved state is not like `like`, or cannot be read.
        """
        found = self.load(named(like))
        return jax.tree.unflatten(jax.tree.structure(like), list(found.values()))

    def load(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """All arrays by their names, each like the one that is wanted; see `restore`."""
        import orbax.checkpoint as ocp  # slow to import

        there = {self._name_there(name): leaf for name, leaf in wanted.items()}
        unlike = difference(self.arrays, {name: described(leaf) for name, leaf in there.items()})
        if unlike is not None:
            raise UserError(f"{self.path}: is not of this model and its optimiser: {unlike}")
        args = ocp.args.StandardRestore(jax.tree.map(_abstract, with_entries(there)))
        try:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
                found = reader.restore(self.path.absolute(), args=args)
        except (OSError, KeyError, ValueError) as e:
            raise UserError(f"{self.path}: cannot be read ({e})") from e
        arrays = (_like(found.get(name), leaf) for name, leaf in there.items())
        return dict(zip(wanted, arrays, strict=True))

    def _name_there(self, name: str) -> str:
        earlier = before_layout_3(name)
        return earlier if name not in self.arrays and earlier in self.arrays else name


def find_checkpoint(folder: pathlib.Path, *, best: bool = False) -> Checkpoint:
    """The newest checkpoint, or the best one, that is not damaged.

    A damaged one is reported on stderr, and the one before (the next best) is taken.

    Args:
        folder: output folder of a run, its `checkpoints`, or the folder of one checkpoint.
        best: of those that were evaluated, the one with the best figure.

    Raises:
        UserError: there is none, or all are damaged.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    paths = _folders(folder)
    if not paths:
        raise UserError(f"{folder}: no checkpoint in this folder")
    damaged: list[str] = []
    for path in _by_score(paths, damaged) if best else reversed(paths):
        try:
            found = Checkpoint.read(path)
        except Damaged as e:
            damaged.append(f"{path} is damaged ({e})")
            continue
        for text in damaged:
            print(f"{text}; {path} is used instead", file=sys.stderr)
        return found
    if not damaged:
        raise UserError(f"{folder}: no checkpoint here was evaluated, so none is the best")
    raise UserError(f"no checkpoint can be used: {'; '.join(damaged)}")


def score_of(path: pathlib.Path) -> float | None:
    """What a checkpoint is judged by; None if it was not evaluated, or cannot be used."""
    try:
        return Facts.of(read_facts(path)).score
    except (Damaged, UserError):
        return None


def with_entries(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Without the arrays of size 0, which cannot be saved."""
    return {name: a for name, a in arrays.items() if np.prod(a.shape) > 0}


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    whole = folder.absolute()
    inside = lambda path: path == RunFolder(path.parent).checkpoints
    if whole.name.isdecimal() and inside(whole.parent):
        return [folder]
    return RunFolder(whole.parent if inside(whole) else folder).checkpoint_paths()


def _by_score(paths: Iterable[pathlib.Path], damaged: list[str]) -> Iterator[pathlib.Path]:
    """The evaluated ones, the best first; adds those that say nothing of it to `damaged`."""
    scores = {}
    for path in paths:
        try:
            scores[path] = _facts(path, read_facts(path)).score
        except Damaged as e:
            damaged.append(f"{path} is damaged ({e})")
    yield from sorted((p for p, s in scores.items() if s is not None), key=lambda p: -scores[p])


def _facts(path: pathlib.Path, said: Any) -> Facts:
    try:
        return Facts.of(said)
    except UserError as e:
        raise UserError(f"{path}: {e}") from e


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    sharding = getattr(leaf, "sharding", None) or first
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _like(array: Any, leaf: Any) -> Any:
    if array is None:  # of size 0, and so not saved
        return jnp.zeros(leaf.shape, leaf.dtype)
    return np.asarray(array) if isinstance(leaf, np.ndarray | np.generic) else array
