"""Text corpora as sequences of tokens."""

import dataclasses
import functools
import gzip
import io
import itertools
import pathlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from zoo.data.checksums import verify_checksums
from zoo.data.python_sources import CHARACTERS, python_sources
from zoo.data.split import Data
from zoo.data.streams import Streams
from zoo.data.vocabulary import Characters, Vocabulary, Words
from zoo.errors import UserError
from zoo.files import opened

SPLITS = ("train", "valid", "test")
NAMES = ("{}.txt", "wiki.{}.tokens", "ptb.{}.txt")  # of the file of a split; or these with .gz
PUBLISHED = {"ptb": 10_000, "wikitext-2": 33_278, "wikitext-103": 267_735}  # size of vocabulary
SOURCES = ("python", "characters", "words", *PUBLISHED)

Text = Callable[[], Iterable[str]]  # gives the lines; texts may be too long to keep in memory


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A vocabulary, and the splits as arrays (N,) int32 of its numbers."""

    vocabulary: Vocabulary
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def data(self, *, length: int, eval_length: int) -> Data:
        """For training in segments of `length` tokens, and evaluation in others.

        The vocabulary, as plain values, is `meta["vocabulary"]`.
        """
        return Data(
            train=Streams(self.train, length),
            valid=Streams(self.valid, eval_length),
            test=Streams(self.test, eval_length),
            meta={"vocabulary": self.vocabulary.to_dict()},
        )


def load_corpus(
    source: str, folder: pathlib.Path | None, vocabulary: Vocabulary | None = None
) -> Corpus:
    """Reads a corpus.

    Args:
        source: `python` needs no folder: the sources of Python's standard library, by character.
            `characters` and `words` are any text; `ptb`, `wikitext-2`, `wikitext-103` are words
            too, and their vocabulary must have the published size.
        folder: has one file per split (`train.txt`, `wiki.train.tokens` or `ptb.train.txt`, and
            the same with `valid` and `test`), or any files `*.txt`, which are joined in the order
            of their names: 90 % are for training, the next 5 % for validation, the last for the
            test. All may be compressed (`.gz`).
        vocabulary: that of a checkpoint; by default it is made from the corpus: words from the
            training split, characters from all three.

    Raises:
        UserError: a folder or a file is missing, empty or damaged, or has a token that is not in
            the vocabulary.
    """
    if source == "python":
        if folder is not None:
            raise UserError("this preset reads Python's own sources: it takes no --data")
        texts: Mapping[str, Text] = {
            split: functools.partial(io.StringIO, text) for split, text in python_sources().items()
        }
        vocabulary = vocabulary or CHARACTERS
    elif folder is None:
        raise UserError(
            f"this preset needs a text: give --data DIR with {NAMES[0].format('train')}"
        )
    else:
        texts = _texts(folder)
    if vocabulary is None and source == "characters":
        vocabulary = Characters.of(itertools.chain(*(text() for text in texts.values())))
    elif vocabulary is None:
        vocabulary = Words.of(texts["train"]())
        expected = PUBLISHED.get(source, len(vocabulary))
        if len(vocabulary) != expected:
            raise UserError(
                f"{folder}: the training text has a vocabulary of {len(vocabulary)}; "
                f"that of {source} has {expected}"
            )
    return Corpus(vocabulary, **{split: _encoded(vocabulary, split, texts) for split in SPLITS})


def read_lines(path: pathlib.Path) -> Iterator[str]:
    """The lines of a text file, which may be compressed; raises `UserError` naming the file."""
    try:
        with opened(path) as file:
            content = gzip.open(file) if path.suffix == ".gz" else file
            with io.TextIOWrapper(content, encoding="utf-8") as lines:
                yield from lines
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: is not UTF-8 text ({e.reason} at byte {e.start})") from e
    except (OSError, EOFError, zlib.error) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e


def _texts(folder: pathlib.Path) -> dict[str, Text]:
    """The text of every split below `folder`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    verify_checksums(folder)
    found = {split: _file(folder, split) for split in SPLITS}
    paths = {split: path for split, path in found.items() if path is not None}
    if not paths:
        return _cut(folder)
    for split in SPLITS:
        if split not in paths:
            raise UserError(f"{folder}: has no text for {split}, such as {split}.txt")
    return {split: functools.partial(read_lines, path) for split, path in paths.items()}


def _file(folder: pathlib.Path, split: str) -> pathlib.Path | None:
    names = (name.format(split) + ending for name in NAMES for ending in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _cut(folder: pathlib.Path) -> dict[str, Text]:
    """All text files of a folder as one text, split by position."""
    paths = sorted([*folder.glob("*.txt"), *folder.glob("*.txt.gz")])
    if not paths:
        raise UserError(f"{folder}: has no text, neither {SPLITS[0]}.txt nor any *.txt or *.txt.gz")
    text = "".join(itertools.chain(*map(read_lines, paths)))
    cuts = (0, len(text) * 90 // 100, len(text) * 95 // 100, len(text))
    parts = (text[start:stop] for start, stop in itertools.pairwise(cuts))
    return {
        split: functools.partial(io.StringIO, part)
        for split, part in zip(SPLITS, parts, strict=True)
    }


def _encoded(vocabulary: Vocabulary, split: str, texts: Mapping[str, Text]) -> np.ndarray:
    encoded = vocabulary.encode_lines(texts[split](), f"{split} text")
    if len(encoded) < 2:  # nothing to predict
        raise UserError(f"the {split} text is empty")
    return encoded
