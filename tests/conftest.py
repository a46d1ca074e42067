"""Settings for all tests: float64 at hand, eight CPU devices, no implicit promotion."""

import gc
import os

import jax
import pytest

# most of the time goes into compiling programs that run for milliseconds
if jax.__version__.startswith("0.10."):  # later ones do not know the flag, and would end
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
    )
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def released():
    """Drops a file's programs: every one holds memory maps, which a process has 65,530 of.

    No collection goes through what was there before, a million objects of libraries: each leak
    check begins with one, which took more than half of its time.
    """
    if not gc.get_freeze_count():
        gc.freeze()
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def settings_of_a_plain_process():
    """JAX's own defaults instead of those above, as a command has them."""
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield
