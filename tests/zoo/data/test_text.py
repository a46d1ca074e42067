"""Corpora and their vocabularies."""

import gzip
import json

import numpy as np
import pytest

from tests.golden import data_folder
from zoo.data.python_sources import python_sources
from zoo.data.text import SPLITS, load_corpus
from zoo.data.vocabulary import Characters, Vocabulary, Words
from zoo.errors import UserError

TRAIN = "a b <unk> b\n\nc a a\n"
VALID = "a d\n"
TEST = "c b"


@pytest.fixture
def folder(tmp_path):
    """A small word-level corpus."""
    for split, text in zip(SPLITS, (TRAIN, VALID, TEST), strict=True):
        (tmp_path / f"{split}.txt").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "name, vocabulary, counts",
    [
        ("ptb", 10_000, (929_589, 73_760, 82_430)),
        ("wikitext-2", 33_278, (2_088_628, 217_646, 245_569)),
    ],
)
def test_published_corpora_have_their_published_counts(name, vocabulary, counts):
    corpus = load_corpus(name, data_folder(name))
    assert len(corpus.vocabulary) == vocabulary
    assert tuple(len(getattr(corpus, split)) for split in SPLITS) == counts
    assert corpus.vocabulary.tokens[0] == "<eos>"
    words = np.bincount(corpus.train, minlength=vocabulary)[1:]
    assert np.all(np.diff(words) <= 0)  # by frequency


def test_words_are_numbered_by_frequency_and_lines_end(folder):
    corpus = load_corpus("words", folder)
    assert corpus.vocabulary.tokens == ("<eos>", "a", "b", "<unk>", "c")
    assert corpus.train.tolist() == [1, 2, 3, 2, 0, 0, 4, 1, 1, 0]
    assert corpus.valid.tolist() == [1, 3, 0]  # an unknown word
    assert corpus.test.tolist() == [4, 2, 0]  # the last line ends, too
    assert corpus.vocabulary.decode(corpus.train) == TRAIN


def test_rare_words_are_unknown_in_a_text_that_says_nothing_of_them():
    assert Words.of(["a b a\n", "c b\n"]).tokens == ("<eos>", "<unk>", "a", "b")


@pytest.mark.parametrize("pattern", ["{}.txt", "wiki.{}.tokens", "ptb.{}.txt"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_file_names(pattern, ending, folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for split in SPLITS:
        content = (folder / f"{split}.txt").read_bytes()
        path = other / (pattern.format(split) + ending)
        path.write_bytes(gzip.compress(content) if ending else content)
    a, b = load_corpus("words", folder), load_corpus("words", other)
    assert a.vocabulary.tokens == b.vocabulary.tokens
    for split in SPLITS:
        np.testing.assert_array_equal(getattr(a, split), getattr(b, split))


def test_other_texts_are_joined_and_cut_by_position(tmp_path):
    text = "".join(chr(ord("a") + i % 26) for i in range(200)) + "äλ\n" * 200
    (tmp_path / "1.txt").write_text(text[:300], encoding="utf-8")
    (tmp_path / "2.txt.gz").write_bytes(gzip.compress(text[300:].encode()))
    corpus = load_corpus("characters", tmp_path)
    assert corpus.vocabulary.tokens == tuple(sorted(set(text)))
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (720, 40, 40)
    parts = np.concatenate([corpus.train, corpus.valid, corpus.test])
    assert corpus.vocabulary.decode(parts) == text


def test_the_default_needs_no_file():
    corpus = load_corpus("python", None)
    assert len(corpus.vocabulary) == 97
    assert 1_000_000 < len(corpus.train) < 8_000_000
    assert 50_000 < len(corpus.valid) <= 200_000 and 50_000 < len(corpus.test) <= 200_000
    assert np.mean(corpus.train == corpus.vocabulary.unknown) < 1e-3
    assert "\ndef " in corpus.vocabulary.decode(corpus.test)
    assert python_sources() == python_sources()


@pytest.mark.parametrize("vocabulary", [Words.of([TRAIN]), Characters.of([TRAIN, TEST])])
def test_a_vocabulary_is_saved_as_plain_values(vocabulary):
    again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert type(again) is type(vocabulary) and again.tokens == vocabulary.tokens


def test_a_prompt_is_not_ended():
    words = Words.of([TRAIN])
    assert words.encode("a b").tolist() == [1, 2]
    assert words.encode("a b\n").tolist() == [1, 2, 0]
    assert words.encode("a\nb").tolist() == [1, 0, 2]
    assert words.encode("").tolist() == []
    assert words.decode(words.encode("a\nb <unk>")) == "a\nb <unk>"
    characters = Characters(["<unk>", "a", "\n"])
    encoded = characters.encode_lines(["a\nb\udce4"], "text")
    assert characters.decode(encoded) == "a\n\ufffd\ufffd"


@pytest.mark.parametrize(
    ("vocabulary", "prompt", "named"),
    [
        (Words.of([TRAIN]), "a zebra", "prompt: the word 'zebra' is not in the vocabulary"),
        (Characters(["<unk>", "a"]), "aß", "prompt: the character 'ß' is not in the vocabulary"),
        (Characters.of(["a"]), "aß", "prompt: the character 'ß' is not in the vocabulary"),
    ],
)
def test_a_prompt_must_be_known(vocabulary, prompt, named):
    with pytest.raises(UserError, match=named):
        vocabulary.encode(prompt)


def test_what_a_checkpoint_cannot_read_is_named(folder):
    (folder / "train.txt").write_text("a b c\n")
    with pytest.raises(UserError, match="valid text: the word 'd' is not in the vocabulary"):
        load_corpus("words", folder, Words(["<eos>", "a", "b", "c"]))


def test_damaged_and_missing_files_are_named(folder):
    with pytest.raises(UserError, match="--data"):
        load_corpus("words", None)
    with pytest.raises(UserError, match="takes no --data"):
        load_corpus("python", folder)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load_corpus("words", folder / "nowhere")
    with pytest.raises(UserError, match="vocabulary of 5; that of ptb has 10000"):
        load_corpus("ptb", folder)
    (folder / "test.txt").write_text("")
    with pytest.raises(UserError, match="the test text is empty"):
        load_corpus("words", folder)
    (folder / "test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="test.txt: is not UTF-8 text"):
        load_corpus("words", folder)
    (folder / "test.txt").unlink()
    with pytest.raises(UserError, match="no text for test"):
        load_corpus("words", folder)
    (folder / "test.txt.gz").write_bytes(gzip.compress(TEST.encode() * 100)[:-9])
    with pytest.raises(UserError, match="test.txt.gz: cannot be read"):
        load_corpus("words", folder)
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="has no text"):
        load_corpus("characters", folder / "empty")
