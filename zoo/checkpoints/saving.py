"""Writes checkpoints while training goes on; none is ever half there."""

import errno
import os
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from zoo.checkpoints.checkpoint import Checkpoint, score_of, with_entries
from zoo.checkpoints.facts import LAYOUT, Facts
from zoo.checkpoints.manifest import Damaged, write_manifest
from zoo.checkpoints.names import described, named
from zoo.checkpoints.quiet import silence_failed_writes
from zoo.devices.distributed import is_first
from zoo.errors import UserError
from zoo.folder import RunFolder

BEING_WRITTEN = ".orbax-checkpoint-tmp"  # Orbax renames a folder once everything is in it
REMOVED = "removed-"  # a folder is renamed before it is deleted file by file
CHANGES = ("_CHECKPOINT_METADATA", "commit_success.txt")  # Orbax writes these last
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


class Saver:
    """Saves checkpoints below an output folder, in the background.

    Use it as a context manager: leaving it waits for what is still being written. Kept are the
    newest ones, and the best one besides.

    Args:
        out: output folder of the run.
        keep: how many of the newest to keep.
        start: step at which the run goes on. Later checkpoints can but be damaged: they are
            deleted, as these steps are made again.

    Raises:
        UserError: there is a later checkpoint that is not damaged, or the folder is unusable.
    """

    def __init__(self, out: pathlib.Path, *, keep: int, start: int):
        import orbax.checkpoint as ocp  # slow to import

        silence_failed_writes()
        self._run, self._keep = RunFolder(out), keep
        self.folder = self._run.checkpoints.absolute()
        self._saving: int | None = None
        self._facts: Facts | None = None
        self._primary = is_first()
        if self._primary:
            try:
                self._tidy(start)
            except OSError as e:
                raise UserError(f"{self.folder}: {e.strerror}") from e
        if jax.process_count() > 1:  # all of them see the folder as it is now
            multihost_utils.sync_global_devices(f"checkpoints from step {start}")
        scores = {p: score_of(p) for p in self._run.checkpoint_paths()}
        self._scores = {int(p.name): s for p, s in scores.items() if s is not None}
        options = ocp.options.AsyncOptions(post_finalization_callback=self._seal)
        handler, self._args = ocp.StandardCheckpointHandler(), ocp.args.StandardSave
        self._writer = ocp.AsyncCheckpointer(handler, async_options=options)

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.wait()
        except UserError as e:
            if kind is None:
                raise
            print(e, file=sys.stderr)  # what ended the run is the news
        finally:
            self._writer.close()

    def best(self, score: float | None) -> bool:
        """Whether a checkpoint of this score would be the best one."""
        return score is not None and all(score > other for other in self._scores.values())

    def save(
        self,
        step: int,
        state: Any,
        config: Mapping[str, Any],
        meta: Mapping[str, Any],
        *,
        score: float | None = None,
    ) -> None:
        """Copies a pytree of arrays, and returns while the copy is being written.

        Waits for the checkpoint before it, if that is not finished yet.

        Args:
            step: its number; the state after that many steps.
            state: arrays; they may be donated to the next step at once.
            config, meta: plain values for JSON.
            score: what the state is judged by, the greater the better.

        Raises:
            UserError: this checkpoint, or the one before it, cannot be written.
        """
        self.wait()
        arrays = named(state)
        descriptions = {name: described(a) for name, a in arrays.items()}
        self._facts = Facts(LAYOUT, step, score, dict(config), dict(meta), descriptions)
        self._saving = step
        arrays = with_entries(arrays)
        if jax.default_backend() == "cpu":  # there Orbax would read the arrays' own memory, later
            arrays = jax.tree.map(jnp.copy, arrays)
        args = self._args(arrays)
        self._guarded(lambda: self._writer.save(self.folder / str(step), args=args))

    def check(self) -> None:
        """Raises `UserError` if the checkpoint in the making has failed; does not wait for it."""
        self._guarded(self._writer.check_for_errors)

    def wait(self) -> None:
        """Returns when nothing is being written any more; raises `UserError` if that failed."""
        self._guarded(self._writer.wait_until_finished)
        if self._saving is not None:
            if self._facts is not None and self._facts.score is not None:
                self._scores[self._saving] = self._facts.score
            self._saving = None
            self._prune()

    def _guarded(self, action) -> None:
        try:
            action()
        except (OSError, ValueError, RuntimeError) as e:
            step, self._saving = self._saving, None
            if self._primary:
                self._remove_unfinished()
            left = self._run.checkpoint_paths()
            before = f"; the newest there is {left[-1]}" if left else ""
            what = f"{self.folder / str(step)}: the checkpoint cannot be written"
            raise UserError(f"{what} ({_reason(e)}){before}") from e

    def _seal(self) -> None:
        """Lists the files, as the last thing before the folder gets its name."""
        (folder,) = self.folder.glob(f"{self._saving}{BEING_WRITTEN}*")
        assert self._facts is not None
        write_manifest(folder, self._facts.to_dict(), leave_out=CHANGES)

    def _prune(self) -> None:
        paths = self._run.checkpoint_paths()
        steps = [int(path.name) for path in paths]
        self._scores = {s: v for s, v in self._scores.items() if s in steps}
        kept = {*steps[-self._keep :], max(self._scores, key=lambda s: self._scores[s], default=-1)}
        for path, step in zip(paths, steps, strict=True):
            if step not in kept:
                self._scores.pop(step, None)
                if self._primary:
                    _remove(path)

    def _tidy(self, start: int) -> None:
        """Removes what a killed process left, and what is damaged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_unfinished()
        for path in self.folder.glob(f"{REMOVED}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self._run.checkpoint_paths():
            if int(path.name) > start:
                try:
                    Checkpoint.read(path)
                except Damaged:
                    _remove(path)
                    continue
                raise UserError(f"{path}: is a later checkpoint than step {start} of this run")

    def _remove_unfinished(self) -> None:
        for path in self.folder.glob(f"*{BEING_WRITTEN}*"):
            shutil.rmtree(path, ignore_errors=True)


def _remove(path: pathlib.Path) -> None:
    """Deletes a checkpoint; if that is interrupted, none is left that looks damaged."""
    gone = path.with_name(f"{REMOVED}{path.name}")
    shutil.rmtree(gone, ignore_errors=True)
    path.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _reason(error: BaseException) -> str:
    """What went wrong: the operating system's word for it, if there is one in the text."""
    text = " ".join(str(error).split())
    return next((name for name in map(os.strerror, DISK_ERRORS) if name in text), text)
