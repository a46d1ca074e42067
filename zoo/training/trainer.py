"""Trains a model, to the end or step by step."""

import pathlib

from zoo.figures import Evaluation
from zoo.training.fit import Fit, Watch
from zoo.training.stepper import Stepper


class Trainer(Stepper):
    """A `Stepper` that makes all of its steps."""

    def fit(
        self, out: pathlib.Path, *, stop_after: int | None = None, watch: Watch | None = None
    ) -> Evaluation:
        """Trains to the end, writing figures, checkpoints and plot below `out`.

        Args:
            out: output folder.
            stop_after: leave off after this step; a resumed run goes on as if it had not.
            watch: what is written besides.

        Returns:
            The evaluation on the test split at the last step.

        Raises:
            Diverged: the loss or its gradient is not finite any more.
            Interrupted: a signal asked to stop; the state is saved.
            UserError: a checkpoint cannot be written, or `watch` asks for what is not to be had.
        """
        return Fit(self, out, watch or Watch()).run(stop_after)
