import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from tests.tolerances import rounding
from tests.zoo.ignn.made import random_edges
from zoo.errors import UserError
from zoo.ignn.config import IGNNConfig
from zoo.ignn.model import IGNN, summed
from zoo.ignn.presets import PRESETS
from zoo.ignn.task import TASK
from zoo.listing import count_parameters

DEQ = jdeq.DEQConfig(f_max_iter=5, grad=1)
FORMS = {
    "nodes": IGNNConfig(n_features=4, widths=(5,), n_classes=3, row_norm=True),
    "stack": IGNNConfig(
        form="stack", n_features=4, widths=(6, 5), n_classes=3, dropout=0.0, labels="any"
    ),
    "graphs": IGNNConfig(form="graphs", n_features=4, widths=(6, 5), n_classes=3),
}
NORMS = ("none", "weight_norm", "spectral_norm")
GRAPH = jnp.array([[0, 0, 1, 1, 1, 4, 4]] * 2)  # two graphs, none of a third, and padding


def inputs(config, packs=2) -> Any:
    edges = random_edges(np.random.default_rng(0), packs, 7, 40, unit=True)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(packs, 7, 4)), jnp.float32)
    return (x, edges, GRAPH, 4) if config.form == "graphs" else (x, edges)


def model_of(config, deq=DEQ) -> Any:
    model = IGNN(config, deq, rngs=nnx.Rngs(0))
    model.eval()
    return model


@pytest.mark.slow
@pytest.mark.parametrize("explicit", [0, 2])
@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
def test_shapes(config, explicit):
    config = dataclasses.replace(config, explicit=explicit)
    model = nnx.eval_shape(lambda: model_of(config))
    given = inputs(config)
    logits, info = nnx.eval_shape(lambda model: model(*given), model)
    assert logits.shape == (2, 4 if config.form == "graphs" else 7, 3)
    assert info.rel_residual.shape == info.status.shape == (2,)


def test_parameters_of_the_published_sizes():
    """4.66 M for PPI in the sheet; and by its formulas, bias and unused Omega_2 included."""
    of = lambda name: count_parameters(TASK, PRESETS[name])
    ppi, widths, features = 0, (1024, 512, 512, 256, 121), 50
    for m in widths:
        layer = m * m + 2 * m * features + 3 * m + m  # W, two Omegas, their scales, bias
        ppi, features = ppi + layer + features * m + m, m
    assert of("ppi") == ppi == 4_664_206
    implicit = lambda p, m: m * m + 2 * m * p + m
    chains = implicit(100, 16) + 3 * 16 + 2 * 16
    assert of("chains") == of("quick") == of("chains-published") == chains
    amazon = PRESETS["amazon"].model
    assert of("amazon") == implicit(amazon.n_features, 128) + 3 * 128 + 58 * 128
    head = 64 * 64 + 64 + 64 * 2 + 2
    assert of("proteins") == implicit(3, 64) + 2 * implicit(64, 64) + head


def test_a_gcn_is_what_it_is_called():
    """relu(A^T x K + c), twice, and the head: the same one as behind an equilibrium."""
    config = IGNNConfig(n_features=4, widths=(5,), n_classes=3, explicit=2, kappa=None)
    model, (x, edges) = model_of(config), inputs(config)
    logits, _ = model(x, edges)
    scaled = edges._replace(weights=edges.weights / (edges.rho[:, None] + 1e-5))
    h = x
    for step in model.layers[0].steps:
        h = jax.nn.relu(scaled.propagate(h) @ step.linear.kernel[...] + step.bias[...][None, None])
    np.testing.assert_allclose(logits, h @ model.last.kernel[...], atol=1e-5)
    assert TASK.unrolled(config, DEQ) == 2 and TASK.unrolled(FORMS["nodes"], DEQ) is None


def test_sums_over_graphs():
    h = jnp.arange(14.0).reshape(1, 7, 2)
    got = summed(h, GRAPH[:1], 4)
    assert got.tolist() == [[[2.0, 4.0], [18.0, 21.0], [0.0, 0.0], [0.0, 0.0]]]
    with pytest.raises(ValueError, match="graph"):
        summed(h, None, None)


def test_nodes_of_no_graph_and_other_graphs_do_not_matter():
    config = FORMS["graphs"]
    model, (x, edges, graph, n) = model_of(config), inputs(config)
    inside = GRAPH[0][edges.sources] == GRAPH[0][edges.targets]
    edges = edges._replace(weights=jnp.where(inside, edges.weights, 0))
    want, _ = model(x, edges, graph, n)
    got, _ = model(x.at[:, 2:].set(9.0), edges, graph, n)
    np.testing.assert_allclose(got[:, 0], want[:, 0], atol=1e-5)
    assert not np.allclose(got[:, 1], want[:, 1])


@pytest.mark.slow
def test_rows_of_length_one():
    config = FORMS["nodes"]
    model, (x, edges) = model_of(config), inputs(config)
    h, _ = model.encode(x, edges)
    last = model.last.kernel[...]
    want = h / np.maximum(np.linalg.norm(h, axis=-1, keepdims=True), 1e-12) @ last
    np.testing.assert_allclose(model(x, edges)[0], want, atol=1e-5)
    silent = jax.grad(lambda x: jnp.sum(model(x, edges)[0]))(jnp.zeros_like(x))
    assert np.isfinite(silent).all()


def test_dropout_is_of_the_head_and_of_training_alone():
    config = FORMS["nodes"]
    model, (x, edges) = model_of(config), inputs(config)
    once = model(x, edges)[0]
    assert np.array_equal(once, model(x, edges, key=jax.random.key(0))[0])
    model.train()
    one, two = (model(x, edges, key=jax.random.key(i))[0] for i in range(2))
    assert not np.array_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
def test_a_state_dict_and_back(config, norm_type):
    """After a training pass, whose projections and power iterations it includes."""
    config = dataclasses.replace(config, n_nodes=7 * (config.form == "nodes"))
    deq = dataclasses.replace(DEQ, norm_type=norm_type)
    model = model_of(config, deq)
    model.train()
    given = inputs(config)
    nnx.jit(lambda model: model(*given, key=jax.random.key(0)))(model)
    arrays = TASK.weights.state_dict(model)
    first = "ignn.0." if config.form == "stack" else "ig1."
    of = {name.removeprefix(first) for name in arrays if name.startswith(first)}
    ends = {
        "none": ("",),
        "weight_norm": ("_v", "_g"),
        "spectral_norm": ("_orig", "_g", "_u", "_v"),
    }
    kernels = ("W", "Omega_1", "Omega_2")
    assert of == {"bias", *(f"{kernel}{end}" for kernel in kernels for end in ends[norm_type])}
    assert ("X_0" in arrays) == (config.form == "nodes")
    if config.form == "stack":
        assert arrays[
            "ignn.2.Omega_1" + {"none": "", "weight_norm": "_g"}.get(norm_type, "_v")
        ].ndim
        assert arrays["proj.2.weight"].shape == (3, 5)
    again = IGNN(config, deq, rngs=nnx.Rngs(1))
    TASK.weights.load(again, arrays)
    second = TASK.weights.state_dict(again)
    assert sorted(second) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(second[name], array, err_msg=name)
    model.eval()
    again.eval()
    close = rounding(np.float32, 100)
    got, want = (each(*given)[0] for each in (again, model))
    np.testing.assert_allclose(got, want, atol=close * np.abs(want).max())


def test_the_joint_function_has_the_layers_states_for_fixed_point():
    config = FORMS["stack"]
    deq = jdeq.DEQConfig(f_max_iter=100, f_tol=1e-6)
    model, (x, edges) = model_of(config, deq), inputs(config)
    names = ("sources", "targets", "weights", "rho")
    batch = {"x": x, **dict(zip(names, edges, strict=True))}
    f, z = TASK.equilibrium(model, batch)
    assert [a.shape[-1] for a in z] == [6, 5, 3]
    for new, old in zip(jax.jit(f)(z), z, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (0,)}, "widths"),
        ({"kappa": -0.1}, "kappa"),
        ({"form": "stack"}, "dropout"),
        ({"form": "graphs", "row_norm": True}, "row_norm"),
        ({"form": "graphs", "labels": "any"}, "labels"),
        ({"form": "trees"}, "form"),
    ],
)
def test_impossible_sizes_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        IGNNConfig(**changes)


def test_features_that_do_not_fit():
    model = model_of(FORMS["nodes"])
    x, edges = inputs(FORMS["nodes"])
    with pytest.raises(ValueError, match="nodes have 3 features, expected 4"):
        model(x[..., :3], edges)


def test_original_settings_that_are_not_known():
    with pytest.raises(UserError, match="case is 'cora'"):
        fields = dict.fromkeys(("nfeat", "nhid", "nclass", "num_node", "dropout", "kappa"), 1)
        TASK.weights.sizes({"case": "cora", "constructor": fields})
    with pytest.raises(UserError, match="missing: kappa"):
        del fields["kappa"]
        TASK.weights.sizes({"case": "ppi", "constructor": fields})
