"""Backwards by name."""

from collections.abc import Callable

from .._named import Registry
from .base import Backward

BACKWARDS: Registry[Backward] = Registry(  # the package registers its own
    "backward", Backward, reserved={"auto": "is what follows --ift, of a configuration,"}
)


def register_backward(
    name: str, factory: Callable[..., Backward], *, overwrite: bool = False
) -> None:
    """Makes a backward of your own available by name, wherever a backward is named.

    Args:
        name: the name; not "auto", which in a `DEQConfig` follows `ift`.
        factory: makes a `jdeq.Backward`; usually the class itself.
        overwrite: replace a name that is taken.

    Raises:
        ValueError: the name is taken.
        TypeError: the name is no word, or the factory cannot be called.
    """
    BACKWARDS.register(name, factory, overwrite=overwrite)


def resolve_backward(spec: str | Backward) -> Backward:
    """The backward that a name or an object stands for."""
    return BACKWARDS.resolve(spec, {})
