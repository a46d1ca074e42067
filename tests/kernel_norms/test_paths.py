"""Arrays of a norm lie where the kernels do, so paths joined by dots can be taken apart again."""

import pytest
from flax import nnx

import jdeq


class Nested(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        linear = lambda: nnx.Linear(3, 3, rngs=rngs)
        self.blocks = nnx.List([linear(), nnx.Dict({"inner": linear()})])
        self.out = linear()


def paths(state) -> set[str]:
    keys = [[str(key) for key in path] for path, _ in nnx.to_flat_state(state)]
    assert not any("." in key for path in keys for key in path)
    return {".".join(path) for path in keys}


@pytest.mark.parametrize("norm", [jdeq.nn.WeightNorm, jdeq.nn.SpectralNorm])
def test_the_path_of_a_scale_is_that_of_its_kernel(norm):
    module = norm(Nested(rngs=nnx.Rngs(0)))
    want = {"blocks.0.kernel", "blocks.1.inner.kernel", "out.kernel"}
    assert {p for p in paths(nnx.state(module.module)) if p.endswith("kernel")} == want
    assert paths(nnx.state(module.scales)) == want
    if norm is jdeq.nn.SpectralNorm:
        assert paths(nnx.state(module.vectors)) == {f"{p}.{n}" for p in want for n in "uv"}
