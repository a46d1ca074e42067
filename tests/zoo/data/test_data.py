import io

import numpy as np
import pytest
from PIL import Image

from zoo.data import cifar10 as cifar10_module
from zoo.data.cifar10 import MEAN, STD, cifar10, crop_and_flip
from zoo.data.digits import digits
from zoo.data.samples import Samples
from zoo.errors import UserError

COUNT = Samples({"x": np.arange(10)})


def steps(start, stop, seed=0):
    return [b["x"].tolist() for b in COUNT.train_batches(4, seed=seed, start=start, stop=stop)]


def test_batches_depend_on_seed_and_step_alone():
    assert steps(3, 7) == steps(0, 7)[3:]
    assert steps(0, 7) != steps(0, 7, seed=1)
    assert steps(0, 2) != steps(2, 4)  # another epoch, another order
    assert all(len(set(sum(steps(k, k + 2), []))) == 8 for k in (0, 2, 4))


def test_too_large_a_batch():
    with pytest.raises(UserError, match="11"):
        COUNT.train_batches(11, seed=0, start=0, stop=1)


def test_evaluation_batches_have_one_size_and_count_each_sample_once():
    five = Samples({"x": np.arange(5)})
    seen = [(b["x"].tolist(), w.tolist()) for b, w in five.eval_batches(3)]
    assert seen == [([0, 1, 2], [1, 1, 1]), ([3, 4, 0], [1, 1, 0])]


def test_digits_are_split_the_same_way_each_time():
    a, b = digits(), digits()
    (train, _), (test, _) = (next(split.eval_batches(2000)) for split in (a.train, a.test))
    np.testing.assert_array_equal(test["x"], next(b.test.eval_batches(360))[0]["x"])
    assert train["x"].shape == (1437, 8, 8, 1) and test["x"].shape == (360, 8, 8, 1)
    assert train["x"].dtype == np.float32
    assert np.bincount(test["y"]).min() >= 34


def write_binary(folder, per_file):
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for name in names:
        rows = rng.integers(0, 256, (per_file, 1 + 3072), dtype=np.uint8)
        rows[:, 0] %= 10
        rows.tofile(folder / name)
    return rows


def test_binary_cifar(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10_module, "PER_FILE", 4)
    last = write_binary(tmp_path, 4)
    train, test = cifar10(tmp_path)
    assert train["x"].shape == (20, 32, 32, 3) and test["x"].shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(test["y"], last[:, 0])
    red = last[2, 1:].reshape(3, 32, 32)[0, 5, 7]
    np.testing.assert_allclose(test["x"][2, 5, 7, 0], (red / 255 - MEAN[0]) / STD[0], rtol=1e-5)


def test_missing_and_truncated_cifar_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10_module, "PER_FILE", 4)
    write_binary(tmp_path, 4)
    (tmp_path / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(UserError, match=r"data_batch_3.bin: 5 bytes, expected 12292"):
        cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"data_batch_3.bin: no such file"):
        cifar10(tmp_path)
    with pytest.raises(UserError, match="--data"):
        cifar10(None)


def test_jpeg_cifar(tmp_path):
    """The archive cuts a common header off each file; here it is the first two bytes."""
    save = lambda a: np.savez(tmp_path / "cifar10_jpeg.npz", allow_pickle=False, **a)
    arrays: dict[str, np.ndarray] = {"header": np.frombuffer(b"\xff\xd8", np.uint8)}
    for split, n in (("train", 3), ("test", 2)):
        files = []
        for i in range(n):
            out = io.BytesIO()
            Image.fromarray(np.full((32, 32, 3), 40 * i, np.uint8)).save(out, "JPEG")
            files.append(np.frombuffer(out.getvalue()[2:], np.uint8))
        arrays[f"{split}_bytes"] = np.concatenate(files)
        offsets = np.cumsum([0] + [len(f) for f in files]).astype(np.int32)
        arrays[f"{split}_offsets"] = offsets
        arrays[f"{split}_labels"] = np.arange(n, dtype=np.uint8)
    save(arrays)
    train, test = cifar10(tmp_path)
    want = (40 / 255 - MEAN) / STD
    np.testing.assert_allclose(train["x"][1, 0, 0], want, atol=0.02)
    np.testing.assert_array_equal(test["y"], [0, 1])

    arrays["test_bytes"] = arrays["test_bytes"][:-9]
    save(arrays)
    with pytest.raises(UserError, match="cifar10_jpeg.npz"):
        cifar10(tmp_path)


def test_crop_and_flip_moves_pixels_and_is_deterministic():
    x = np.random.default_rng(0).normal(size=(16, 32, 32, 3)).astype(np.float32)
    batch = {"x": x, "y": np.arange(16)}
    a = crop_and_flip(batch, np.random.default_rng(1))
    b = crop_and_flip(batch, np.random.default_rng(1))
    np.testing.assert_array_equal(a["x"], b["x"])
    assert a["x"].shape == x.shape and a["x"].dtype == x.dtype
    black = (-MEAN / STD).astype(np.float32)
    for i in range(16):
        candidates = np.pad(x[i], ((4, 4), (4, 4), (0, 0)), constant_values=np.nan)
        candidates = np.where(np.isnan(candidates), black, candidates)
        crops = [
            candidates[r : r + 32, c : c + 32][:, :: 1 - 2 * flip]
            for r in range(9)
            for c in range(9)
            for flip in (0, 1)
        ]
        assert any(np.array_equal(a["x"][i], crop) for crop in crops)
