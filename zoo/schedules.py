"""The learning rate that the settings of training name."""

import optax

from zoo.settings import TrainConfig


def learning_rate(train: TrainConfig, own: optax.Schedule) -> optax.Schedule:
    """The schedule that `train` names: the model's own, or another one from the same rate on."""
    if train.schedule == "own":
        return own
    steps = max(train.steps - train.warmup, 1)
    after = {
        "constant": optax.constant_schedule(train.lr),
        "cosine": optax.cosine_decay_schedule(train.lr, steps),
        "linear": optax.linear_schedule(train.lr, 0.0, steps),
    }[train.schedule]
    if not train.warmup:
        return after
    # the first step has 1 / warmup of the rate: a step of nothing would be a step lost
    first = train.lr / train.warmup
    ramp = optax.linear_schedule(first, train.lr + first, train.warmup)
    return optax.join_schedules([ramp, after], [train.warmup])
