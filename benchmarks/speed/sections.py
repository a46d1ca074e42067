"""The benchmark's sections by name. A section is a module with `rows(context)` and `NOTES`."""

from . import compiling, grid, growth, memory, overhead, steps, streaming, vmapping

SECTIONS = {
    "grid": grid,
    "overhead": overhead,
    "vmap": vmapping,
    "stream": streaming,
    "compile": compiling,
    "memory": memory,
    "growth": growth,
    "steps": steps,
}
