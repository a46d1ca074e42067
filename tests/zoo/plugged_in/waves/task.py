"""The representation as a task: how much of the signal is noise, in decibels."""

import jax.numpy as jnp
import numpy as np

import jdeq
from tests.zoo.plugged_in.waves.data import waves
from tests.zoo.plugged_in.waves.model import Waves, WavesConfig
from zoo.figures import Figure
from zoo.settings import Preset, TrainConfig
from zoo.solves import solve_means, solve_rows
from zoo.task import PredictingTask, SolvingTask


class WavesTask(SolvingTask, PredictingTask):
    """See `zoo.task`."""

    name = "waves"
    summary = "implicit representation of a signal"
    figures = {"PSNR": Figure(("mse",), lambda mse: -10 * np.log10(mse), "{:.2f} dB".format)}
    module = Waves
    presets = {
        "quick": Preset(
            summary="a sum of waves",
            model=WavesConfig(),
            deq=jdeq.DEQConfig(f_solver="fixed_point_iter", f_max_iter=20, grad=3),
            train=TrainConfig(
                steps=40, batch_size=64, eval_batch_size=50, lr=0.02, eval_every=20, save_every=20
            ),
            data="waves",
        )
    }

    def load_data(self, source, folder, *, model, meta):
        return waves()

    def loss(self, model, batch, key):
        made, info = model(batch["t"], key=key)
        loss = jnp.mean((made - batch["y"]) ** 2)
        return loss, {"mse": loss, **solve_means(info)}

    def evaluate(self, model, batch):
        made, info = model(batch["t"])
        mse = jnp.mean((made - batch["y"]) ** 2, -1)
        return {"mse": mse, "loss": mse, **solve_rows(info, model.equilibrium.config)}

    def equilibrium(self, model, batch):
        x = model.encode(batch["t"])
        return model.equilibrium.f(x), model.equilibrium(x)[0]

    def inference(self, model):
        def value(t):
            made, info = model(t)
            return made, info.rel_residual

        return value, (jnp.zeros((1, 1)),)


TASK = WavesTask()
