import numpy as np
import pytest
from flax import nnx

from tests.zoo.conftest import TINY, TINY_DEQ
from zoo.arrays import load_arrays
from zoo.errors import UserError
from zoo.mdeq.model import MDEQ
from zoo.mdeq.original import MDEQOriginal
from zoo.upstream.names import TorchNames
from zoo.upstream.transfer import TRANSFERRED, export_arrays, import_arrays


def arrays_of(model):
    return export_arrays(nnx.state(model, TRANSFERRED), NAMES)


def abstract():
    return nnx.eval_shape(lambda: MDEQ(TINY, TINY_DEQ, rngs=nnx.Rngs(0)))


NAMES = MDEQOriginal().names(abstract())


@pytest.fixture(scope="module")
def arrays():
    """Random arrays with the names and shapes of the tiny model's PyTorch twin."""
    rng = np.random.default_rng(0)
    model = MDEQ(TINY, TINY_DEQ, rngs=nnx.Rngs(0))
    return {k: rng.normal(size=v.shape).astype(np.float32) for k, v in arrays_of(model).items()}


@pytest.mark.slow
def test_round_trip(arrays):
    model = abstract()
    import_arrays(model, arrays, NAMES)
    back = arrays_of(model)
    assert back.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value)


def test_layouts(arrays):
    model = abstract()
    import_arrays(model, arrays, NAMES)
    kernel = model.stem[0].conv.kernel[...]
    np.testing.assert_array_equal(kernel[1, 2, 0, 3], arrays["downsample.0.weight"][3, 0, 1, 2])
    np.testing.assert_array_equal(model.classifier.kernel[...], arrays["classifier.weight"].T)
    g = model.full_stage.cell.scales["branches"]["0"].blocks["0"].conv1.kernel[...]
    want = arrays["full_stage.branches.0.blocks.0.conv1.weight_g"]
    assert want.shape == (4, 1, 1, 1)
    np.testing.assert_array_equal(g.ravel(), want.ravel())


def test_counters_are_ignored_and_all_problems_listed_at_once(arrays):
    wrong = arrays | {
        "downsample.1.num_batches_tracked": np.zeros((), np.int64),
        "surplus.weight": np.zeros(2),
        "classifier.bias": np.zeros(5),
    }
    del wrong["classifier.weight"]
    model = abstract()
    with pytest.raises(UserError) as error:
        import_arrays(model, wrong, NAMES)
    for name in ("classifier.weight", "classifier.bias", "surplus.weight", "(5,)", "(3,)"):
        assert name in str(error.value)
    assert "num_batches_tracked" not in str(error.value)


def test_pickled_content_is_refused(tmp_path):
    path = tmp_path / "state.npz"
    np.savez(path, w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="state.npz"):
        load_arrays(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half an archive", b"\x93NUMPY"])
def test_damaged_archives(tmp_path, content):
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="state.npz"):
        load_arrays(path)


def test_a_bare_array_is_not_an_archive(tmp_path):
    path = tmp_path / "state.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match="state.npz"):
        load_arrays(path)


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_arrays(tmp_path / "state.npz")
    with pytest.raises(UserError, match="expected a file ending in"):
        load_arrays(tmp_path / "state.bin")


def test_safetensors(tmp_path, arrays):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(
        {k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "m.safetensors"
    )
    loaded = load_arrays(tmp_path / "m.safetensors")
    assert loaded.keys() == arrays.keys()
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="bad.safetensors"):
        load_arrays(tmp_path / "bad.safetensors")


def test_two_variables_with_one_name_are_an_error(arrays):
    names = TorchNames(rules=(*NAMES.rules, (r"^downsample\.3\.", "downsample.0.")))
    model = abstract()
    both = r"stem\.0\.conv\.kernel and stem\.1\.conv\.kernel are both called downsample\.0\.weight"
    with pytest.raises(UserError, match=both):
        import_arrays(model, arrays, names)
    with pytest.raises(UserError, match=both):
        export_arrays(nnx.state(model), names)
