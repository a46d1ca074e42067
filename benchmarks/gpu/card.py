"""What the card reaches: a large copy, large matrix products, the smallest call and loop."""

import functools
import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks.speed.timing import interleave

from .context import Context, Jobs, Row

NOTES = """Rates of a copy count bytes read and written. `error` is the distance of a float32
product from NumPy's in float64, relative: about 3e-4 is TF32, below 1e-6 is float32. An empty loop
adds 1 to a number: of known length, and of a length that is an argument."""


def jobs(context: Context) -> Jobs:
    yield "copy", lambda: copy(context)
    yield "empty loops", lambda: empty_loops(context)
    yield "matrix products, torch", lambda: torch_products(context)
    # XLA tries many kernels for each, which takes longer than all the rest
    for dtype, precision in (("bfloat16", None), ("float32", None), ("float32", "highest")):
        name = f"matrix product, {dtype}, {precision or 'default'}"
        yield name, functools.partial(product, name, dtype, precision, context)


def rotating(call: Callable[..., object], inputs: list) -> Callable[[], object]:
    """Takes the next of the inputs at every call, so that none is in a cache."""
    turn = iter(range(1 << 62))
    return lambda: jax.block_until_ready(call(*inputs[next(turn) % len(inputs)]))


def copy(context: Context) -> list[Row]:
    size = 1 << (16 if context.quick else 28)  # 1 GiB in float32
    inputs = [(jax.random.normal(jax.random.key(i), (size,)),) for i in range(2)]
    call = rotating(jax.jit(lambda x: -x), inputs)
    call()
    seconds = interleave({"copy": call}, context.effort)["copy"]
    return [{"what": "copy", "ms": 1e3 * seconds, "rate": 8 * size / seconds / 1e9, "unit": "GB/s"}]


def product(name: str, dtype: str, precision: str | None, context: Context) -> list[Row]:
    size = 128 if context.quick else 4096
    draw = lambda i: jax.random.normal(jax.random.key(i), (size, size), dtype)
    matmul = jax.jit(functools.partial(jnp.matmul, precision=precision))
    call = rotating(matmul, [(draw(0), draw(1)), (draw(2), draw(3))])
    call()
    seconds = interleave({"": call}, context.effort)[""]
    row: Row = {"what": name, "ms": 1e3 * seconds, "rate": 2 * size**3 / seconds / 1e12}
    row["unit"] = "TFLOP/s"
    if dtype == "float32":
        row["error"] = error(lambda a, b: np.asarray(matmul(a, b)))
    return [row]


def error(matmul: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Of a product of width 1024."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1024, 1024)).astype(np.float32)
    right = a.astype(np.float64) @ b.astype(np.float64)
    return float(np.linalg.norm(matmul(a, b) - right) / np.linalg.norm(right))


def torch_products(context: Context) -> list[Row]:
    if importlib.util.find_spec("torch") is None:
        return [{"what": "torch is not installed"}]
    import torch  # slow to import

    rows = []
    for allow in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = allow

        def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            left, right = (torch.tensor(x, device=context.device) for x in (a, b))
            return (left @ right).cpu().numpy()

        what = f"torch, matrix product, float32, allow_tf32={allow}"
        rows.append({"what": what, "error": error(matmul)})
    return rows


def empty_loops(context: Context) -> list[Row]:
    n = 20 if context.quick else 1000

    def known(x: Array, _: Array) -> Array:
        return lax.fori_loop(0, n, lambda _, x: x + 1, x)

    def unknown(x: Array, n: Array) -> Array:
        body = lambda c: (c[0] + 1, c[1] + 1)
        return lax.while_loop(lambda c: c[1] < n, body, (x, 0))[0]

    args = jnp.zeros((8,)), jnp.int32(n)
    once = jax.jit(lambda x, _: x + 1)
    made = {"one call": once, "known length": jax.jit(known), "unknown length": jax.jit(unknown)}
    calls = {name: rotating(call, [args]) for name, call in made.items()}
    for call in calls.values():
        call()
    seconds = interleave(calls, context.effort)
    per = {"one call": 1, "known length": n, "unknown length": n}
    return [
        {"what": f"empty loop, {name}" if n > 1 else name, "us": 1e6 * seconds[name] / n}
        for name, n in per.items()
    ]
