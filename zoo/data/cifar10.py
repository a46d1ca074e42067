"""CIFAR-10 from a folder: the published binary files, or one archive of JPEG bytes."""

import io
import pathlib

import numpy as np

from zoo.arrays import load_arrays
from zoo.data.augmentation import Augmentation
from zoo.data.checksums import verify_checksums
from zoo.data.split import Batch
from zoo.errors import UserError

MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
STD = np.array([0.2023, 0.1994, 0.2010], np.float32)  # the published training's, not the data's
BINARY = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
PER_FILE, PIXELS = 10_000, 32 * 32 * 3
JPEG = "cifar10_jpeg.npz"
SIZE = (32, 32)


def cifar10(folder: pathlib.Path | None) -> tuple[Batch, Batch]:
    """Train and test split; `x` float32 (N, 32, 32, 3) normalised, `y` int32 (N,).

    Reads the "binary version" of the published data (`data_batch_1.bin` ... `test_batch.bin`),
    or `cifar10_jpeg.npz`, which holds the images as JPEG bytes. The published Python version
    is pickled, and a pickle can run code, so it is not read.

    Raises:
        UserError: no folder was given, or a file in it is missing or damaged; names the file.
    """
    if folder is None:
        raise UserError(
            f"this preset needs CIFAR-10: give --data DIR with {BINARY['train'][0]}, ... "
            f"(the binary version) or {JPEG}"
        )
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    verify_checksums(folder)
    if (folder / JPEG).exists():
        arrays = load_arrays(folder / JPEG)
        read = lambda split: _jpeg(folder / JPEG, arrays, split)
    else:
        read = lambda split: _binary([folder / name for name in BINARY[split]])
    return _batch(*read("train")), _batch(*read("test"))


def _shifts_and_flips(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 3): how far to move down and right, and whether to mirror."""
    return np.stack([rng.integers(0, 9, n), rng.integers(0, 9, n), rng.random(n) < 0.5], axis=1)


def _crop_and_flip(batch: Batch, drawn: np.ndarray) -> Batch:
    x = batch["x"]
    n, side = x.shape[0], x.shape[1]
    padded = np.broadcast_to(-MEAN / STD, (n, side + 8, side + 8, 3)).copy()
    padded[:, 4:-4, 4:-4] = x
    rows = drawn[:, :1] + np.arange(side)
    columns = drawn[:, 1:2] + np.arange(side)
    columns = np.where(drawn[:, 2:] > 0, columns[:, ::-1], columns)
    cropped = padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return {**batch, "x": cropped.astype(x.dtype)}


# random 32x32 crop after padding by 4 zeros-in-pixel-space, and a mirror image by chance
crop_and_flip = Augmentation(_shifts_and_flips, _crop_and_flip)


def _batch(images: np.ndarray, labels: np.ndarray) -> Batch:
    x = (images.astype(np.float32) / 255 - MEAN) / STD
    return {"x": x, "y": labels.astype(np.int32)}


def _binary(paths: list[pathlib.Path]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file (CIFAR-10, binary version)")
        expected = PER_FILE * (1 + PIXELS)
        if path.stat().st_size != expected:
            raise UserError(f"{path}: {path.stat().st_size} bytes, expected {expected}")
        try:
            rows = np.fromfile(path, np.uint8).reshape(PER_FILE, 1 + PIXELS)
        except OSError as e:
            raise UserError(f"{path}: cannot be read ({e.strerror})") from e
        labels.append(_checked_labels(path, rows[:, 0]))
        images.append(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return np.concatenate(images), np.concatenate(labels)


def _jpeg(path: pathlib.Path, arrays: Batch, split: str) -> tuple[np.ndarray, np.ndarray]:
    names = ["header"] + [f"{split}_{part}" for part in ("bytes", "offsets", "labels")]
    for name in names:
        if name not in arrays:
            raise UserError(f"{path}: no array named {name!r}")
    header, content, offsets, labels = (arrays[name] for name in names)
    for name in names:
        array = arrays[name]
        bytes_expected = name in names[:2]
        if array.ndim != 1 or array.dtype.kind not in "ui" or bytes_expected and array.itemsize > 1:
            expected = "bytes" if bytes_expected else "integers"
            raise UserError(
                f"{path}: {name!r} is {array.dtype} of shape {array.shape}, "
                f"expected (N,) {expected}"
            )
    if len(labels) == 0:
        raise UserError(f"{path}: {split!r} has no images")
    if len(offsets) != len(labels) + 1 or offsets[-1] != len(content):
        raise UserError(f"{path}: offsets, labels and bytes of {split!r} do not fit together")
    if offsets[0] != 0 or np.any(np.diff(offsets.astype(np.int64)) < 0):
        raise UserError(f"{path}: the offsets of {split!r} are not ascending from 0")
    images = []
    for i in range(len(labels)):
        data = header.tobytes() + content[offsets[i] : offsets[i + 1]].tobytes()
        try:
            images.append(_image(data))
        except UserError as e:
            raise UserError(f"{path}: image {i} of {split!r} {e}") from e
    return np.stack(images), _checked_labels(path, labels)


def _image(data: bytes) -> np.ndarray:
    """(32, 32, 3) uint8, of a JPEG's bytes.

    They go to the reader of JPEGs and to no other: those of some formats run programs. Nothing is
    decoded before the size that they announce is known to be right.
    """
    from PIL.JpegImagePlugin import JpegImageFile  # slow to import

    try:
        image = JpegImageFile(io.BytesIO(data))
        shape = (image.height, image.width, len(image.getbands()))
        if shape == (*SIZE, 3):
            return np.asarray(image.convert("RGB"))
    except Exception as e:  # whatever bytes that are no JPEG make it raise
        raise UserError(f"is damaged, or no JPEG ({e})") from e
    raise UserError(f"is of shape {shape}, expected (32, 32, 3)")


def _checked_labels(path: pathlib.Path, labels: np.ndarray) -> np.ndarray:
    for label in (labels.min(), labels.max()):
        if not 0 <= label <= 9:
            raise UserError(f"{path}: label {label}, expected 0 to 9")
    return labels
