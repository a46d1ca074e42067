"""A sequence of tokens as parallel streams of segments."""

import itertools

import numpy as np
import pytest

from zoo.data.streams import Streams
from zoo.errors import UserError

TOKENS = np.arange(200, dtype=np.int32)  # each token says where it stands
SPLIT = Streams(TOKENS, 7)


def steps(start, stop, *, seed=0, batch_size=3):
    return list(SPLIT.train_batches(batch_size, seed=seed, start=start, stop=stop))


def test_streams_go_on_where_they_ended():
    batches = steps(0, 40)
    for batch in batches:
        assert batch["x"].shape == batch["y"].shape == (3, 7)
        assert batch["x"].dtype == batch["y"].dtype == np.int32
        np.testing.assert_array_equal(batch["y"], batch["x"] + 1)
    for before, after in itertools.pairwise(batches):
        if not after["fresh"]:
            np.testing.assert_array_equal(after["x"][:, 0], before["y"][:, -1])
    assert [int(k) for k, batch in enumerate(batches) if batch["fresh"]] == list(range(0, 40, 9))


def test_a_pass_reads_nearly_everything_once_and_the_next_is_cut_elsewhere():
    first, second = (
        np.concatenate([b["x"].ravel() for b in steps(k, k + 9)]).tolist() for k in (0, 9)
    )
    assert len(set(first)) == len(first) == 9 * 21
    assert sorted(first) == list(range(min(first), min(first) + 9 * 21))
    assert min(first) < 7 and min(first) != min(second)


def test_a_batch_depends_on_the_seed_and_its_step_alone():
    through = steps(0, 30)
    for start in range(30):
        resumed = steps(start, start + 1)[0]
        for name, array in resumed.items():
            np.testing.assert_array_equal(array, through[start][name])
    starts = {int(steps(0, 1, seed=seed)[0]["x"][0, 0]) for seed in range(20)}
    assert len(starts) > 3 and max(starts) < 7


@pytest.mark.parametrize("n, length, batch_size", [(200, 7, 3), (8, 3, 3), (3, 50, 50), (2, 1, 1)])
def test_evaluation_predicts_every_token_but_the_first_once(n, length, batch_size):
    predicted = []
    batches = list(Streams(TOKENS[:n], length).eval_batches(batch_size))
    for batch, weights in batches:
        assert batch["x"].shape == weights.shape == batches[0][1].shape
        np.testing.assert_array_equal(batch["y"], batch["x"] + 1)
        predicted += batch["y"][weights > 0].tolist()
    assert sorted(predicted) == list(range(1, n))
    assert [bool(batch["fresh"]) for batch, _ in batches] == [True] + [False] * (len(batches) - 1)
    for (before, _), (after, weights) in itertools.pairwise(batches):
        going_on = weights[:, 0] > 0
        np.testing.assert_array_equal(after["x"][going_on, 0], before["y"][going_on, -1])


def test_too_short_a_text():
    assert len(list(Streams(TOKENS[:28], 7).train_batches(3, seed=0, start=0, stop=2))) == 2
    with pytest.raises(UserError, match=r"batch_size 3 with segments of 7 .* least 28 .* are 27"):
        Streams(TOKENS[:27], 7).train_batches(3, seed=0, start=0, stop=2)
