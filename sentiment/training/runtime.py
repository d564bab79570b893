"""What the machine is told before work starts: number formats, memory, threads, device."""

import contextlib
import ctypes
import os
import platform
import random
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentiment.config import Device, Precision, RuntimeConfig
from sentiment.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # mallopt(3)


@dataclass(frozen=True)
class Runtime:
    """Where the model runs, in which precision its encoder multiplies, and where caches lie."""

    device: torch.device
    precision: Precision
    cache_dir: Path

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context in which the LSTM's products take the run's precision."""
        enabled = self.precision is Precision.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def prepare(config: RuntimeConfig) -> Runtime:
    """Set the process up; call it once, before the first tensor is computed.

    Raises:
        UserError: a device or precision that this machine lacks.
        OSError: the cache folder cannot be made.
    """
    # Gradients that vanish through time become subnormal floats, on which a CPU is up to 10 times
    # slower. The mode is per thread and inherited, so it has to be set before threads start.
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    torch.set_num_threads(config.threads or _usable_cores())
    # cuBLAS is deterministic with a workspace of its own only; it reads this when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    device = _choose_device(config.device)
    native = _has_native_bfloat16(device)
    if config.precision is Precision.bfloat16 and device.type == "cuda" and not native:
        raise UserError("runtime.precision=bfloat16 needs a GPU that has it; use float32")
    automatic = Precision.bfloat16 if native else Precision.float32
    precision = automatic if config.precision is Precision.auto else config.precision
    torch.backends.cudnn.allow_tf32 = precision is not Precision.float32
    cache_dir = Path(os.path.expanduser(config.cache_dir))
    cache_dir.mkdir(parents=True, exist_ok=True)
    return Runtime(device, precision, cache_dir)


def seed_everything(seed: int) -> None:
    """Seed every generator that weights and dropout masks are drawn from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def describe_environment(runtime: Runtime) -> dict[str, Any]:
    """What a figure depends on beside the configuration: code, packages, machine, precision."""
    packages = ("torch", "datasets", "tokenizers", "torchmetrics", "hydra-core", "tensorboard")
    is_gpu = runtime.device.type == "cuda"
    return {
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "device": torch.cuda.get_device_name() if is_gpu else _processor_name(),
        "threads": torch.get_num_threads(),
        "precision": runtime.precision.value,
    }


def _keep_freed_memory() -> None:
    # By default glibc returns large blocks to the kernel when they are freed: every training step
    # then faults some 100 MB in again.
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        # One heap for all threads: the backward pass runs in another than the forward pass.
        libc.mallopt(M_ARENA_MAX, 1)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _choose_device(device: Device) -> torch.device:
    available = torch.cuda.is_available()
    if device is Device.cuda and not available:
        raise UserError("runtime.device=cuda: torch finds no GPU here; use cpu or auto")
    return torch.device("cuda" if available and device is not Device.cpu else "cpu")


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _git_commit() -> str | None:
    """Commit of the checkout that this code runs from, with `-dirty` where files differ."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        return found.stdout.strip()
    return None


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
