"""Text as numbers, by words or by characters."""

import array
import io
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from zoo.errors import UserError

UNKNOWN = "<unk>"
END = "<eos>"  # of a line
N_CODES = 0x110000  # Unicode


class Vocabulary(ABC):
    """Tokens and their numbers, which are their places in `tokens`.

    What is not among them gets the number of `<unk>` in a text to learn from, if there is one; in
    a text to be continued it is a mistake.
    """

    level: ClassVar[str]

    def __init__(self, tokens: Sequence[str]):
        self.tokens = tuple(tokens)
        self.unknown = self.tokens.index(UNKNOWN) if UNKNOWN in self.tokens else None

    def __len__(self) -> int:
        return len(self.tokens)

    @abstractmethod
    def encode_lines(self, lines: Iterable[str], name: str) -> np.ndarray:
        """The numbers (N,) int32 of a text given by its lines.

        Raises:
            UserError: a token is not in the vocabulary; says which, and that it is in `name`.
        """

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The numbers (N,) int32 of a text to be continued.

        Raises:
            UserError: a token is not in the vocabulary, even if that has `<unk>`.
        """

    @abstractmethod
    def decode(self, numbers: Iterable[int]) -> str:
        """The text that the numbers stand for."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"level": self.level, "tokens": list(self.tokens)}

    @staticmethod
    def from_dict(saved: Any) -> "Vocabulary":
        """The inverse of `to_dict`; raises `UserError` for what that cannot have given."""
        level, tokens = _level_and_tokens(saved)
        if level not in ("word", "character"):
            raise UserError("the saved vocabulary has neither words nor characters")
        whole = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
        if not whole or not 0 < len(tokens) == len(set(tokens)):
            raise UserError(f"the saved vocabulary is not one of {level}s, each of them once")
        if level == "word":
            return Words(tokens)
        if any(len(token) != 1 for token in tokens if token != UNKNOWN):
            raise UserError("the saved vocabulary is one of characters, and has longer ones")
        return Characters(tokens)

    def _check_all_known(self, tokens: Iterable[str], name: str) -> None:
        known = set(self.tokens)
        for token in tokens:
            if token not in known:
                raise self._not_there(token, name)

    def _not_there(self, token: str, name: str) -> UserError:
        return UserError(f"{name}: the {self.level} {token!r} is not in the vocabulary")


class Words(Vocabulary):
    """Words, separated by white space; every line ends with `<eos>`."""

    level = "word"

    @classmethod
    def of(cls, lines: Iterable[str]) -> "Words":
        """`<eos>`, then the words of a text by how often they occur, then by where they begin.

        This is the published vocabulary of WikiText and the Penn Treebank, where rare words are
        `<unk>` already. In a text without `<unk>`, those that occur once are made so.
        """
        counts = Counter()
        for line in lines:
            counts.update(line.split())
        words = [(word, n) for word, n in counts.most_common() if word != END]
        if UNKNOWN in counts:
            return cls([END, *(word for word, _ in words)])
        return cls([END, UNKNOWN, *(word for word, n in words if n > 1)])

    def encode_lines(self, lines: Iterable[str], name: str) -> np.ndarray:
        """See `Vocabulary`; every line ends, whether or not with a line break."""
        numbers = _Numbers(self, name)
        end, encoded = numbers[END], array.array("i")
        for line in lines:
            encoded.extend(map(numbers.__getitem__, line.split()))
            encoded.append(end)
        return np.array(encoded, np.int32)

    def encode(self, text: str) -> np.ndarray:
        """See `Vocabulary`; a last line without a line break goes on."""
        self._check_all_known(text.split(), "prompt")
        encoded = self.encode_lines(io.StringIO(text), "prompt")
        return encoded if text.endswith("\n") else encoded[:-1]

    def decode(self, numbers: Iterable[int]) -> str:
        """The words with spaces between them, and line breaks."""
        words = (self.tokens[number] for number in numbers)
        spaced = " ".join("\n" if word == END else word for word in words)
        return re.sub(" ?\n ?", "\n", spaced)


class Characters(Vocabulary):
    """Characters, line breaks among them."""

    level = "character"

    @classmethod
    def of(cls, lines: Iterable[str]) -> "Characters":
        """The characters of a text, sorted."""
        return cls(sorted(set().union(*lines)))

    def encode_lines(self, lines: Iterable[str], name: str) -> np.ndarray:
        """See `Vocabulary`."""
        codes = np.frombuffer("".join(lines).encode("utf-32-le", "surrogatepass"), np.uint32)
        missing = -1 if self.unknown is None else self.unknown
        table = np.full(N_CODES, missing, np.int32)
        for number, token in enumerate(self.tokens):
            if token != UNKNOWN:
                table[ord(token)] = number
        encoded = table[codes]
        if missing < 0 and encoded.min(initial=0) < 0:
            raise self._not_there(chr(codes[np.argmin(encoded)]), name)
        return encoded

    def encode(self, text: str) -> np.ndarray:
        """See `Vocabulary`."""
        self._check_all_known(text, "prompt")
        return self.encode_lines([text], "prompt")

    def decode(self, numbers: Iterable[int]) -> str:
        """The characters; what is unknown is shown as U+FFFD."""
        tokens = (self.tokens[number] for number in numbers)
        return "".join("\ufffd" if token == UNKNOWN else token for token in tokens)


def _level_and_tokens(saved: Any) -> tuple[Any, Any]:
    """Of what a file has, which may be anything."""
    return (saved.get("level"), saved.get("tokens")) if isinstance(saved, Mapping) else (None, None)


class _Numbers(dict):
    """Number of each word; `dict` itself looks up, so that this costs what a `dict` costs."""

    def __init__(self, vocabulary: Words, name: str):
        super().__init__((word, number) for number, word in enumerate(vocabulary.tokens))
        self.vocabulary, self.name = vocabulary, name

    def __missing__(self, word: str) -> int:
        if self.vocabulary.unknown is None:
            raise self.vocabulary._not_there(word, self.name)
        return self.vocabulary.unknown
