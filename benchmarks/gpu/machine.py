"""Date, card, driver, versions."""

import datetime
import importlib.util
import os
import shutil
import subprocess
from typing import Any

import jax

from benchmarks.speed import results

MORE = ("flax", "optax", "orbax-checkpoint", "grain", "jax-cuda13-plugin", "jax-cuda12-plugin")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    found = results.machine()
    found["versions"] |= {n: v for n in MORE if (v := results.version(n)) is not None}
    device = jax.devices()[0]
    found["card"] = device.device_kind
    found["platform"] = getattr(device.client, "platform_version", device.platform).strip()
    found["driver"] = nvidia_smi()
    found["CUDA of torch"] = torch_cuda()
    found["xla_flags"] = os.environ.get("XLA_FLAGS", "")
    found["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return found


def nvidia_smi() -> str | None:
    """Name, driver, memory and clocks, as the driver's own program tells them."""
    if shutil.which("nvidia-smi") is None:
        return None
    fields = "name,driver_version,memory.total,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip()


def torch_cuda() -> str | None:
    """The CUDA that torch was built with."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch  # slow to import

    return torch.version.cuda
