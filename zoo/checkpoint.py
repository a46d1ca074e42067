"""Checkpoints of a run: parameters, statistics, optimiser state, configuration, vocabulary."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from zoo.errors import UserError

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints below an output folder; each is written completely or not at all.

    Use it as a context manager: leaving it waits for what is still being written.

    Args:
        out: output folder of the run.
        keep: how many of the newest to keep.
    """

    def __init__(self, out: pathlib.Path, *, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager((out / FOLDER).absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(
        self, step: int, state: Any, config: dict[str, Any], meta: Mapping[str, Any] | None = None
    ) -> None:
        """Saves a pytree of arrays with its configuration and what belongs to its data.

        Does nothing if `step` is there.
        """
        if step != self.latest:
            args = ocp.args.Composite(
                state=ocp.args.StandardSave(_numbered(state)),
                config=ocp.args.JsonSave(config),
                **({"meta": ocp.args.JsonSave(dict(meta))} if meta else {}),
            )
            self._manager.save(step, args=args)

    def restore_config(self) -> dict[str, Any]:
        """The configuration of the newest checkpoint."""
        args = ocp.args.Composite(config=ocp.args.JsonRestore())
        return self._read(args)["config"]

    def restore_meta(self) -> dict[str, Any]:
        """What was saved as `meta` with the newest checkpoint; empty if it has none."""
        if not (self._manager.directory / str(self.latest) / "meta").exists():
            return {}
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._read(args)["meta"]

    def restore(self, like: Any) -> Any:
        """The newest checkpoint's state, with the structure, shapes and dtypes of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _numbered(like))
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        leaves = self._read(args)["state"]
        ordered = [leaves[name] for name in sorted(leaves)]
        return jax.tree.unflatten(jax.tree.structure(like), ordered)

    def _read(self, args: ocp.args.Composite) -> Any:
        try:
            return self._manager.restore(self.latest, args=args)
        except (OSError, KeyError, ValueError) as e:
            raise UserError(
                f"{self._manager.directory}: checkpoint {self.latest} is damaged ({e})"
            ) from e


def open_checkpoints(folder: pathlib.Path) -> Checkpoints:
    """Existing checkpoints of an output folder, or of its `checkpoints` folder itself.

    Raises:
        UserError: there is no such folder, or no checkpoint in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    out = folder.absolute().parent if folder.absolute().name == FOLDER else folder
    if not (out / FOLDER).is_dir():
        raise UserError(f"{folder}: no checkpoint in this folder")
    checkpoints = Checkpoints(out)
    if checkpoints.latest is None:
        raise UserError(f"{folder}: no checkpoint in this folder")
    return checkpoints


def _numbered(tree: Any) -> dict[str, Any]:
    """Leaves by number: their names may hold dots, which file formats take for separators."""
    return {f"{i:06d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}
