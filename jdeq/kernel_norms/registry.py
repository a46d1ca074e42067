"""Norms by name."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from .._named import Registry
from .base import KernelNorm

NORMS: Registry[KernelNorm] = Registry(  # the package registers its own
    "norm", KernelNorm, reserved={"none": "stands for no norm"}
)


def register_norm(
    name: str, factory: Callable[..., KernelNorm], *, overwrite: bool = False
) -> None:
    """Makes a norm of your own available by name, wherever a norm is named.

    Args:
        name: the name; not "none".
        factory: `factory(module, ...)` makes a `jdeq.nn.KernelNorm`; usually the class itself.
            Of `learn_scale`, `target_norm`, `clip` and `n_power_iterations` it is passed those
            that it takes and that a `functools.partial` has not fixed.
        overwrite: replace a name that is taken.

    Raises:
        ValueError: the name is taken.
        TypeError: the name is no word, or the factory cannot be called.

    Example:
        >>> import functools, jdeq
        >>> torch_deq = functools.partial(jdeq.nn.SpectralNorm, per_channel=True)
        >>> jdeq.register_norm("spectral_norm_per_channel", torch_deq, overwrite=True)
        >>> jdeq.DEQConfig(norm_type="spectral_norm_per_channel").norm_type
        'spectral_norm_per_channel'
    """
    NORMS.register(name, factory, overwrite=overwrite)


def make_norm(
    name: str, module: nnx.Module, options: Mapping[str, Any], required: Mapping[str, str]
) -> KernelNorm:
    """The norm called `name` around `module`, with those `options` that it takes.

    Raises:
        TypeError: it does not take an option that is `required`, whose name for the user is the
            value there; or its factory makes something else.
    """
    factory = NORMS.entries[name]
    accepted = {k: v for k, v in options.items() if _takes(factory, k)}
    for option, said in required.items():
        if option not in accepted:
            raise TypeError(f"{said} has no effect: the norm {name!r} takes no {option}")
    made = factory(module, **accepted)
    if not isinstance(made, KernelNorm):
        kind = type(made).__name__  # a module prints all of its parameters
        raise TypeError(f"the factory of norm {name!r} made a {kind}, not a KernelNorm")
    return made


def _takes(factory: Any, option: str) -> bool:
    """Whether a factory has this option, and has not fixed it by `functools.partial`."""
    while isinstance(factory, functools.partial):
        if option in factory.keywords:
            return False
        factory = factory.func
    # the signature of an NNX class is that of its metaclass
    called = factory.__init__ if isinstance(factory, type) else factory
    parameters = inspect.signature(called).parameters
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
