import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden import reference_folder
from zoo.ignn.losses import losses, masked_mean
from zoo.ignn.scores import F1, counts


def figures(logits, y, labels):
    made = counts(jnp.asarray(logits), jnp.asarray(y), labels)
    means = {name: np.asarray(value).mean(0) for name, value in made.items()}
    return {name: figure.made(means) for name, figure in F1.items()} | {
        "accuracy": float(means["accuracy"].mean())
    }


def test_the_originals():
    with np.load(reference_folder("ignn/parts") / "golden.npz") as golden:
        for i in range(2):
            of = lambda name, i=i: golden[f"metrics/{i}/{name}"]
            for labels, kind in (("top", "topk"), ("any", "threshold")):
                got = figures(of("logits"), of("labels"), labels)
                np.testing.assert_allclose(got["micro-F1"], of(f"{kind}_micro_f1"), rtol=1e-6)
                np.testing.assert_allclose(got["macro-F1"], of(f"{kind}_macro_f1"), rtol=1e-6)
            got = figures(of("logits"), of("class_labels"), "class")
            np.testing.assert_allclose(got["accuracy"], of("accuracy"), rtol=1e-6)


def test_micro_f1_of_classes_is_the_accuracy():
    rng = np.random.default_rng(0)
    got = figures(rng.normal(size=(50, 4)), rng.integers(0, 4, 50), "class")
    np.testing.assert_allclose(got["micro-F1"], got["accuracy"], rtol=1e-6)


def test_nothing_said_and_nothing_true():
    never = -np.ones((3, 2))
    assert figures(never, np.zeros((3, 2)), "any") == {
        "micro-F1": 0.0,
        "macro-F1": 0.0,
        "accuracy": 1.0,
    }
    ties = figures(np.zeros((3, 4)), np.array([[1, 0, 0, 0]] * 3), "top")
    assert ties["micro-F1"] == 1.0  # the first of equals


def test_losses():
    logits, classes = jnp.array([[[1.0, 2.0], [0.5, -1.0]]]), jnp.array([[1, -1]])
    got = losses(logits, classes)
    want = -jax.nn.log_softmax(logits)[0, jnp.arange(2), jnp.array([1, 0])]
    np.testing.assert_allclose(got[0], want, rtol=1e-6)
    labels = jnp.array([[[1.0, 0.0], [1.0, 1.0]]])
    p = jax.nn.sigmoid(logits)
    want = -(labels * jnp.log(p) + (1 - labels) * jnp.log(1 - p)).mean(-1)
    np.testing.assert_allclose(losses(logits, labels), want, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)])
def test_a_mean_of_what_counts(shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values[0, 0] = np.nan  # does not count
    mask = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    want = (values[0, 1] + values[0, 2] + values[1, 2]) / 3
    np.testing.assert_allclose(masked_mean(jnp.asarray(values), jnp.asarray(mask)), want, rtol=1e-6)
    assert not np.any(masked_mean(jnp.asarray(values), jnp.zeros((2, 3))))
