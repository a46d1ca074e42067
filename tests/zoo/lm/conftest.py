import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jdeq
from tests.golden import reference_folder
from zoo.lm.config import LMConfig
from zoo.lm.model import LanguageModel

SHIPPED = ("deq_lm/div1_local", "deq_seq/post_ln_cut")
FOLDERS = (
    *SHIPPED,
    "deq_lm/unroll12",
    "deq_lm/convergent",
    "deq_lm/div1_adaptive",
    "deq_seq/post_ln",
    "deq_seq/pre_ln",
)
TINY = LMConfig(
    n_layer=2,
    n_head=2,
    d_model=8,
    d_inner=12,
    d_embed=8,
    cutoffs=(5, 9),
    div_val=2,
    tied_projections=(1, 2),
    dropout=0.0,
    tgt_len=4,
    mem_len=6,
    n_token=20,
)
POST_NORM = dataclasses.replace(TINY, design="deq_seq", n_layer=1, pre_norm=False)
UNROLLED = jdeq.DEQConfig(f_max_iter=0, grad=3, norm_type="weight_norm")
TIGHT = jdeq.DEQConfig(
    ift=True, f_max_iter=500, f_tol=1e-12, f_stop_mode="rel", norm_type="weight_norm"
)


@pytest.fixture
def x64():
    """Double precision."""
    with jax.enable_x64(True):
        yield


def make(config: LMConfig, deq: jdeq.DEQConfig = UNROLLED, *, scale: float = 0.0) -> LanguageModel:
    """A model with initial weights, or with weights N(0, scale^2)."""
    dtype = jnp.result_type(float)
    model = LanguageModel(config, deq, rngs=nnx.Rngs(0), param_dtype=dtype)
    if scale:
        state = nnx.state(model, nnx.Param)
        leaves, tree = jax.tree.flatten(state)
        keys = jax.random.split(jax.random.key(2), len(leaves))
        drawn = [
            scale * jax.random.normal(key, leaf.shape, leaf.dtype)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        nnx.update(model, jax.tree.unflatten(tree, drawn))
    return model


@pytest.fixture
def golden_lm():
    """Gives a reference folder by name, or skips."""
    return reference_folder
