"""Compiled programs that outlive the process."""

import pathlib
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from zoo.errors import UserError


def add_cache_option(group: Any) -> None:
    """Adds `--compile_cache`."""
    text = "keep compiled programs there, and take those that are there; a folder of one's own"
    group.add_argument("--compile_cache", type=pathlib.Path, metavar="DIR", help=text)


def use_cache(folder: pathlib.Path | None) -> None:
    """Has JAX keep every program that it compiles from now on, if there is a folder.

    Raises:
        UserError: it cannot be made.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--compile_cache {folder}: {e.strerror}") from e
    jax.config.update("jax_compilation_cache_dir", str(folder.resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # one that is in use stays in use
