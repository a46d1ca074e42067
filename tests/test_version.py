"""One version, wherever it is told."""

import pathlib
import re

import jdeq

ROOT = pathlib.Path(__file__).parents[1]


def test_the_same_version_everywhere():
    said = {
        "CHANGELOG.md": r"^## (\S+)$",
        "CITATION.cff": r"^version: (\S+)$",
    }
    for file, pattern in said.items():
        (newest, *_) = re.findall(pattern, (ROOT / file).read_text(), re.M)
        assert newest == jdeq.__version__, file
    assert 'attr = "jdeq._version.__version__"' in (ROOT / "pyproject.toml").read_text()
