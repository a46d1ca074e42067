"""Data that are not what they should be: said before the first step, with the file's name."""

import gzip
import hashlib
import io
import os
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.zoo.data.test_data import write_binary
from tests.zoo.test_cli import run
from zoo.data import cifar10 as cifar10_module
from zoo.data.cifar10 import cifar10
from zoo.data.text import load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.errors import UserError

Change = Callable[[pathlib.Path], object]


def jpeg(shape=(32, 32), mode="RGB") -> np.ndarray:
    out = io.BytesIO()
    Image.new(mode, shape).save(out, "JPEG")
    return np.frombuffer(out.getvalue(), np.uint8)


def archive(folder: pathlib.Path, **changes) -> None:
    """An archive of two images per split, with some arrays changed or, if None, left out."""
    one = jpeg()
    arrays = {"header": np.zeros(0, np.uint8)}
    for split in ("train", "test"):
        arrays[f"{split}_bytes"] = np.concatenate([one, one])
        arrays[f"{split}_offsets"] = np.array([0, len(one), 2 * len(one)])
        arrays[f"{split}_labels"] = np.array([3, 9], np.uint8)
    kept = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(folder / "cifar10_jpeg.npz", allow_pickle=False, **kept)


def images(*shown: np.ndarray) -> dict[str, np.ndarray]:
    """The test split with other images."""
    offsets = np.cumsum([0, *map(len, shown)])
    return {"test_bytes": np.concatenate(shown), "test_offsets": offsets}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"test_labels": None}, "no array named 'test_labels'"),
        ({"test_labels": np.array([3, 10])}, "label 10, expected 0 to 9"),
        ({"test_labels": np.array([-1, 3])}, "label -1, expected 0 to 9"),
        ({"test_labels": np.array([3.0, 4.0])}, "'test_labels' is float64 of shape"),
        ({"test_labels": np.zeros((2, 1), int)}, r"of shape \(2, 1\), expected \(N,\) integers"),
        ({"test_bytes": np.zeros(9, np.int32)}, r"int32 of shape \(9,\), expected \(N,\) bytes"),
        ({"train_offsets": np.array([0, 5])}, "of 'train' do not fit together"),
        ({"train_offsets": np.array([0, 9999, 2 * len(jpeg())])}, "not ascending from 0"),
        (
            {"train_labels": np.zeros(0, int), "train_offsets": np.zeros(1, int)},
            "'train' has no images",
        ),
        (images(jpeg(), jpeg()[:-300]), "image 1 of 'test' is damaged"),
        (images(jpeg((16, 16)), jpeg()), r"image 0 .* of shape \(16, 16, 3\), expected \(32, 32"),
        (images(jpeg(), jpeg(mode="L")), r"image 1 of 'test' is of shape \(32, 32, 1\), expected"),
        (images(jpeg((1, 1)), jpeg()), r"image 0 of 'test' is of shape \(1, 1, 3\), expected"),
    ],
)
def test_an_archive_of_images(changes, named, tmp_path):
    archive(tmp_path)
    assert len(cifar10(tmp_path)[1]["y"]) == 2
    archive(tmp_path, **changes)
    with pytest.raises(UserError, match=rf"cifar10_jpeg\.npz: .*{named}"):
        cifar10(tmp_path)


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def sums(folder: pathlib.Path) -> str:
    """What `sha256sum *` prints."""
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in folder.iterdir()]
    return "".join(lines)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda folder: flip(folder / "test_batch.bin"),
            r"test_batch.bin: its SHA-256 is [0-9a-f]{64}, exp",
        ),
        (
            lambda folder: (folder / "extra.bin").unlink(),
            "extra.bin: is listed in SHA256SUMS, but: No",
        ),
        (lambda folder: (folder / "SHA256SUMS").write_text("12 a"), "SHA256SUMS, line 1: expected"),
    ],
)
def test_checksums_that_came_with_the_data(change: Change, named, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10_module, "PER_FILE", 4)
    write_binary(tmp_path, 4)
    (tmp_path / "extra.bin").write_bytes(b"1")
    (tmp_path / "SHA256SUMS").write_text(sums(tmp_path))
    cifar10(tmp_path)
    change(tmp_path)
    with pytest.raises(UserError, match=named):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: (f / "test.txt").write_text(""), "the test text is empty"),
        (lambda f: (f / "test.txt").unlink(), "has no text for test"),
        (lambda f: (f / "valid.txt").write_bytes(b"\xff"), "valid.txt: is not UTF-8 text"),
        (
            lambda f: ((f / "valid.txt").unlink(), (f / "valid.txt").mkdir()),
            "has no text for valid",
        ),
        (
            lambda f: (
                (f / "valid.txt").unlink(),
                (f / "valid.txt.gz").write_bytes(gzip.compress(b"a b" * 99)[:-4]),
            ),
            "valid.txt.gz: cannot be read",
        ),
        (
            lambda f: ((f / "SHA256SUMS").write_text(sums(f)), flip(f / "train.txt")),
            "train.txt: its SHA-256 is",
        ),
    ],
)
def test_texts(change: Change, named, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a b a b\n")
    load_corpus("words", tmp_path)
    change(tmp_path)
    with pytest.raises(UserError, match=named):
        load_corpus("words", tmp_path)


FORMATS = ("PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "ICO", "TGA", "JPEG2000")


def other(kind: str) -> np.ndarray:
    """The right image in a format that is not the right one."""
    out = io.BytesIO()
    Image.new("RGB", (32, 32)).save(out, kind)
    return np.frombuffer(out.getvalue(), np.uint8)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("kind", [*FORMATS, "EPS"])
def test_images_in_other_formats_get_to_no_reader(kind, tmp_path, monkeypatch):
    """Pillow's reader of EPS runs a program."""
    shown = np.frombuffer(EPS, np.uint8) if kind == "EPS" else other(kind)
    for name in ("Popen", "run", "check_call", "check_output"):
        monkeypatch.setattr(f"subprocess.{name}", lambda *_, **__: pytest.fail("ran a program"))
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("any format will do"))
    archive(tmp_path, **images(jpeg(), shown))
    with pytest.raises(UserError, match="image 1 of 'test' is damaged, or no JPEG"):
        cifar10(tmp_path)


@pytest.mark.parametrize("size", [(20_000, 20_000), (65_500, 65_500), (33, 32), (32, 31)])
def test_nothing_is_decoded_that_has_not_the_right_size(size, monkeypatch):
    content = bytearray(jpeg().tobytes())
    at = content.index(b"\xff\xc0") + 5  # of height and width, in the header of the frame
    content[at : at + 4] = size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big")
    reader = "PIL.JpegImagePlugin.JpegImageFile.load"
    monkeypatch.setattr(reader, lambda *_: pytest.fail("was decoded"))
    with pytest.raises(UserError, match=rf"of shape \({size[1]}, {size[0]}, 3\), expected"):
        cifar10_module._image(bytes(content))


@pytest.mark.parametrize("name", ["/dev/zero", "../secret", "pipe", "link", ".", "a/../../secret"])
def test_checksums_are_those_of_plain_files_below_the_folder(name, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    (folder / "all.txt").write_text("a b " * 99)
    digest = hashlib.sha256(b"secret").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {name}\n")
    with pytest.raises(UserError, match="is listed in SHA256SUMS, but"):
        load_corpus("words", folder)


def test_texts_and_lists_that_are_no_files_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "all.txt")
    with pytest.raises(UserError, match="all.txt: cannot be read .*not a plain file"):
        load_corpus("words", tmp_path)
    os.mkfifo(tmp_path / "SHA256SUMS")
    with pytest.raises(UserError, match="SHA256SUMS: cannot be read .*not a plain file"):
        load_corpus("words", tmp_path)


@pytest.mark.parametrize(
    "saved",
    [
        None,
        [],
        {},
        {"level": "word"},
        {"level": [], "tokens": ["a"]},
        {"level": "syllable", "tokens": ["a"]},
        {"level": "word", "tokens": "ab"},
        {"level": "word", "tokens": []},
        {"level": "word", "tokens": ["a", 3]},
        {"level": "word", "tokens": ["a", "a"]},
        {"level": "character", "tokens": ["a", "bc"]},
        {"level": "character", "tokens": ["a", ""]},
    ],
)
def test_a_saved_vocabulary_that_is_none(saved):
    with pytest.raises(UserError, match="the saved vocabulary"):
        Vocabulary.from_dict(saved)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("--data {folder}", "this preset reads the digits of scikit-learn: it takes no --data"),
        ("--preset cifar-small --data {folder}", "data_batch_1.bin: no such file"),
        ("--preset cifar-small --data {folder}/nowhere", "nowhere: no such folder"),
    ],
)
def test_the_command_line_says_so_before_it_starts(argv, named, tmp_path, capsys):
    out = tmp_path / "run"
    words = argv.format(folder=tmp_path).split()
    assert run("train", "mdeq", *words, "--out", out) == 2
    assert named in capsys.readouterr().err
    assert not out.exists()
