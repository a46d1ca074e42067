import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from tests.marks import EXHAUSTIVE
from tests.tolerances import rounding
from zoo.listing import count_parameters
from zoo.mdeq.config import MDEQConfig
from zoo.mdeq.full_stage import FullStage
from zoo.mdeq.model import MDEQ
from zoo.mdeq.presets import PRESETS
from zoo.mdeq.task import TASK

DEQ = jdeq.DEQConfig(f_max_iter=3, norm_type="weight_norm")


def sizes(n: int, **changes) -> MDEQConfig:
    options = {
        "channels": (4,) * n,
        "head_channels": (1, 2, 2, 3)[:n],
        "final_channels": 6,
        "n_blocks": (2, 1, 1, 1)[:n],
        "n_groups": 2,
        "expansion": 1,
        "n_classes": 3,
        "in_channels": 2,
        "image_size": (16, 16),
    }
    return MDEQConfig(**options | changes)


def plain_cell(model: MDEQ) -> FullStage:
    norm = model.full_stage.cell
    assert isinstance(norm, jdeq.nn.WeightNorm)
    cell = norm.fold()
    assert isinstance(cell, FullStage)
    return cell


@pytest.mark.parametrize(("preset", "count"), [("cifar-small", 159034), ("cifar-large", 11099998)])
def test_published_parameter_count(preset, count):
    assert count_parameters(TASK, PRESETS[preset]) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "downsample_times"),
    [
        pytest.param(n, times, marks=() if (n + times) % 2 == 0 else EXHAUSTIVE)
        for n in (1, 2, 3, 4)
        for times in (0, 1)
    ],
)
def test_shapes_for_every_branch_count(n, downsample_times):
    config = sizes(n, downsample_times=downsample_times)

    def run(x):
        model = MDEQ(config, DEQ, rngs=nnx.Rngs(0))
        u = model.encode(x)
        return u, model.full_stage(u)[0], *model(x)

    u, z, logits, info = jax.eval_shape(run, jnp.zeros((5, 16, 16, 2)))
    side = 16 >> downsample_times
    assert [a.shape for a in u] == [(5, side >> i, side >> i, 4) for i in range(n)]
    assert [a.shape for a in z] == [a.shape for a in u]
    assert logits.shape == (5, 3)
    assert info.rel_residual.shape == (5,)


@pytest.mark.slow
def test_one_branch_is_the_block_alone():
    model = MDEQ(sizes(1), DEQ, rngs=nnx.Rngs(0))
    cell = plain_cell(model)
    z = (jax.random.normal(jax.random.key(1), (2, 4, 4, 4)),)
    u = (jax.random.normal(jax.random.key(2), (2, 4, 4, 4)),)
    np.testing.assert_array_equal(cell(z, u)[0], cell.branch_outputs(z, u)[0])
    assert not cell.fuse_layers and not cell.post_fuse_layers


@pytest.mark.slow
def test_initial_weights():
    model = MDEQ(PRESETS["cifar-small"].model, DEQ, rngs=nnx.Rngs(0))
    norm = model.full_stage.cell
    assert isinstance(norm, jdeq.nn.WeightNorm) and isinstance(norm.module, FullStage)
    v = norm.module.branches[0].blocks[0].conv1.kernel[...]
    bound = (24 * 9) ** -0.5
    assert np.abs(v).max() <= bound
    np.testing.assert_allclose(np.std(v), bound / 3**0.5, rtol=0.02)
    folded = plain_cell(model).branches[0].blocks[0].conv1.kernel[...]
    np.testing.assert_allclose(folded, v, rtol=rounding(v.dtype, terms=24 * 9 + 4))
    np.testing.assert_allclose(np.std(model.stem[1].conv.kernel[...]), 0.01, rtol=0.05)
    bias = model.classifier.bias
    assert bias is not None and 0 < np.abs(bias[...]).max() <= 200**-0.5


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_size": (18, 16)}, "divisible by 4"),
        ({"n_groups": 3}, "n_groups"),
        ({"n_groups": 1}, "n_groups"),
        ({"head_channels": (1, 2)}, "head_channels"),
        ({"n_blocks": (0, 1, 1)}, "n_blocks"),
        ({"downsample_times": 3}, "downsample_times"),
        ({"expansion": 0}, "expansion"),
        ({"channels": ()}, "channels"),
    ],
)
def test_impossible_sizes_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        sizes(3, **changes)


@pytest.mark.parametrize("shape", [(1, 14, 16, 2), (1, 16, 16, 3)])
def test_images_that_do_not_fit(shape):
    model = nnx.eval_shape(lambda: MDEQ(sizes(3), DEQ, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="image"):
        jax.eval_shape(lambda x: model.encode(x), jnp.zeros(shape))


@pytest.mark.slow
def test_loss_weights_the_sampled_states():
    """With two states the loss is 0.8 times that of the earlier one plus that of the last."""
    config = sizes(2)
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 2))
    batch = {"x": x, "y": jnp.array([0, 1, 2, 0])}
    deq = dataclasses.replace(DEQ, f_max_iter=4, f_tol=1e-9, indexing=(2,))
    model = MDEQ(config, deq, rngs=nnx.Rngs(0))
    loss, _ = nnx.jit(TASK.loss)(model, batch, jax.random.key(0))

    def by_hand(model):
        _, info = model.full_stage(model.encode(x))
        losses = [
            -jnp.mean(jax.nn.log_softmax(model.decode(z))[jnp.arange(4), batch["y"]])
            for z in info.states
        ]
        return losses

    losses = nnx.jit(by_hand)(MDEQ(config, deq, rngs=nnx.Rngs(0)))
    assert len(losses) == 2
    close = rounding(np.float32, terms=4 * 4 * 9 * 16)  # in four iterations
    np.testing.assert_allclose(loss, 0.8 * losses[0] + losses[1], rtol=close)


@pytest.mark.slow
def test_loss_includes_the_jacobian_penalty():
    config = sizes(1)
    image = np.random.default_rng(0).normal(size=(2, 8, 8, config.in_channels))
    batch = {"x": jnp.asarray(image, jnp.float32), "y": jnp.zeros(2, jnp.int32)}

    def loss(**options):
        model = MDEQ(config, jdeq.DEQConfig(f_max_iter=4, **options), rngs=nnx.Rngs(0))
        return nnx.jit(TASK.loss)(model, batch, jax.random.key(0))[0]

    plain, one, two = loss(), loss(jac_loss_weight=1.0), loss(jac_loss_weight=2.0)
    assert one > plain
    np.testing.assert_allclose(two - plain, 2 * (one - plain), rtol=1e-3)
    assert loss(jac_loss_weight=1.0, jac_loss_freq=0.0) == plain
