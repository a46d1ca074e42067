"""Files of arrays that lie about their content, or hold what is no array of real numbers."""

import io
import json
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from zoo.arrays import load_arrays
from zoo.errors import UserError


def header(text: str, version=(1, 0)) -> bytes:
    content = text.encode() + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(content))
    return b"\x93NUMPY" + bytes(version) + size + content


def of(shape, descr: Any = "<f4") -> str:
    return repr({"descr": descr, "fortran_order": False, "shape": shape})


NPY = {
    "a terabyte": header(of((10**12,))),
    "more than can be counted": header(of((10**30, 10**30))),
    "a negative length": header(of((-1,))) + bytes(4),
    "two negative lengths": header(of((-1, -1))) + bytes(4),
    "shorter than its header says": header(of((3,))) + bytes(8),
    "longer than its header says": header(of((3,))) + bytes(16),
    "a later version": header(of((10**12,)), (3, 0)),
    "an unknown version": header(of((1,)), (9, 9)) + bytes(4),
    "no dictionary": header("[" * 5000),
    "objects": header(of((1,), "|O")) + bytes(8),
    "texts": header(of((1,), "<U4")) + bytes(16),
    "times": header(of((1,), "<M8[s]")) + bytes(8),
    "records": header(of((1,), [("a", "<f4")])) + bytes(4),
    "complex": header(of((1,), "<c8")) + bytes(8),
    "not an array": b"just text",
    "nothing": b"",
}


@pytest.mark.parametrize("content", NPY.values(), ids=NPY)
def test_npz(content, tmp_path):
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(UserError, match="state.npz"):
        load_arrays(path)


def test_an_archive_that_unfolds_into_more_than_the_memory(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10_000))
    assert load_arrays(tmp_path / "a.npz")["a"].size == 10_000
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    with pytest.raises(UserError, match="a.npz: .* more than this machine's memory"):
        load_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
def test_real_numbers_come_back(dtype, tmp_path):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    np.savez(tmp_path / "a.npz", a=array, none=array[:0], one=array[0, 0])
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"a": array}, tmp_path / "a.safetensors")
    for ending in ("npz", "safetensors"):
        loaded = load_arrays(tmp_path / f"a.{ending}")["a"]
        assert loaded.dtype == array.dtype and np.array_equal(loaded, array)


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ({"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}, b"abcd"),
        ({"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}, b"abcd"),
        ({"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}, bytes(8)),
        ({"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}, bytes(1)),
        ({"dtype": "F99", "shape": [1], "data_offsets": [0, 1]}, bytes(1)),
    ],
)
def test_safetensors(said, content, tmp_path):
    pytest.importorskip("safetensors")
    text = json.dumps({"a": said}).encode()
    path = tmp_path / "state.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    with pytest.raises(UserError, match="state.safetensors"):
        load_arrays(path)


def test_bfloat16_is_read(tmp_path):
    text = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "state.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes.fromhex("803f20c0"))
    pytest.importorskip("safetensors")
    loaded = load_arrays(path)["a"]
    assert loaded.dtype == np.float32 and loaded.tolist() == [1.0, -2.5]


ODD = {
    "sparse": lambda t: t.eye(3).to_sparse(),
    "sparse by rows": lambda t: t.eye(3).to_sparse_csr(),
    "quantized": lambda t: t.quantize_per_tensor(t.ones(3), 0.1, 0, t.qint8),
    "complex": lambda t: t.ones(3, dtype=t.complex64),
    "without values": lambda t: t.ones(3, device="meta"),
    "repeated": lambda t: t.ones(1).expand(10**9),
    "nested": lambda t: t.nested.nested_tensor([t.ones(2), t.ones(3)]),
    "in eight bits": lambda t: t.ones(3).to(t.float8_e4m3fn),
    "no tensor": lambda t: 3,
    "a list": lambda t: [t.ones(3)],
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_arrays(kind, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "state.pt"
    torch.save({"a": ODD[kind](torch)}, path)
    with pytest.raises(UserError, match="state.pt") as error:
        load_arrays(path)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "bfloat16": torch.ones(2, dtype=torch.bfloat16),
        "conjugate": torch.ones(2).conj(),
        "negative": torch.complex(torch.ones(2), torch.ones(2)).conj().imag,
        "transposed": torch.ones(2, 3).T,
        "scalar": torch.tensor(1.0),
        "empty": torch.ones(0, 3),
    }
    torch.save(tensors, tmp_path / "a.pt")
    loaded = load_arrays(tmp_path / "a.pt")
    assert loaded.keys() == tensors.keys()
    assert loaded["bfloat16"].dtype == np.float32 and loaded["negative"].tolist() == [-1, -1]
    torch.save({1: torch.ones(2)}, tmp_path / "b.pt")
    with pytest.raises(UserError, match="b.pt: expected a state_dict"):
        load_arrays(tmp_path / "b.pt")


def test_a_damaged_torch_file_is_said_in_one_line(tmp_path):
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(100)}, buffer)
    (tmp_path / "a.pt").write_bytes(buffer.getvalue()[:-100])
    with pytest.raises(UserError, match="a.pt") as error:
        load_arrays(tmp_path / "a.pt")
    assert "\n" not in str(error.value)
