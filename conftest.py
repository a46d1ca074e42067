"""Docstring examples run with the settings that a newcomer has."""

import jax
import pytest


@pytest.fixture(autouse=True)
def default_settings_for_docstrings(request):
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield
