"""The figures of a run as TensorBoard's files."""

import pathlib
from collections.abc import Mapping


class TensorBoardLog:
    """Writes scalars named `split/figure` below a folder.

    Args:
        folder: the folder; TensorBoard is started with it or one above it.
        resume_at: figures of later steps, from a run that went on after its last checkpoint, are
            hidden, since these steps are made again.
    """

    def __init__(self, folder: pathlib.Path, *, resume_at: int = 0):
        from tensorboardX import SummaryWriter  # an optional package, and slow to import

        purge = resume_at + 1 if resume_at else None
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Adds one point to the curve of every figure."""
        for name, value in values.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()
