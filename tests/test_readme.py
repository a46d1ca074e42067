"""The README's Python runs as it stands."""

import pathlib
import re

import jax
import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_readme_examples_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len(blocks) >= 2
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
        exec("\n".join(blocks), {})
    out = capsys.readouterr().out
    said = re.findall(r"print\(.*\)  # (.*)", "\n".join(blocks))
    assert len(said) >= 1
    for line in said:  # "..." stands for what rounding decides
        assert re.search(re.escape(line).replace(re.escape("..."), ".*"), out), (line, out)
