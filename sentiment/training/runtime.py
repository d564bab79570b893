"""What the machine is told before work starts: number formats, memory, threads, device."""

import contextlib
import ctypes
import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentiment.config import Device, Kernel, Precision, RunConfig, RuntimeConfig, flatten
from sentiment.errors import UserError
from sentiment.model.kernel import load_kernel
from sentiment.training.processes import ALONE, Processes

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # mallopt(3)


TAKE_MEMORY = (
    *("data.max_tokens_per_batch", "trainer.batch_size", "tokenizer.max_length"),
    *("model.hidden_size", "model.ngrams", "language.samples"),
)
"""Settings, by which to lower first."""


@dataclass(frozen=True)
class Runtime:
    """Where the model runs, how its encoder is computed, and where caches lie."""

    device: torch.device
    precision: Precision
    kernel: Kernel
    cache_dir: Path
    processes: Processes = ALONE

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context in which the LSTM's products take the run's precision."""
        enabled = self.precision is Precision.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def prepare(
    config: RuntimeConfig,
    trained_in: Precision = Precision.auto,
    processes: Processes = ALONE,
) -> Runtime:
    """Set the process up; call it once, before the first tensor is computed.

    Args:
        config: the machine's side of the settings.
        trained_in: precision of a checkpoint, which `auto` then stands for where the hardware
            has it.
        processes: that train together; those of one machine share its cores and GPUs.

    Raises:
        UserError: a device, precision or kernel that this machine lacks.
    """
    # Gradients that vanish through time become subnormal floats, on which a CPU is up to 10 times
    # slower. The mode is per thread and inherited, so it has to be set before threads start.
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    _leave_compiler_out()
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if processes.count > 1 else 1
    torch.set_num_threads(config.threads or max(1, _usable_cores() // processes_here))
    # cuBLAS is deterministic with a workspace of its own only; it reads this when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    device = _choose_device(config.device)
    precision = _choose_precision(config.precision, trained_in, device)
    # Even to switch it off imports the compiler, which takes more than a second.
    if config.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.allow_tf32 = precision is not Precision.float32
    cache_dir = Path(os.path.expanduser(config.cache_dir))
    on_gpu = device.type == "cuda"
    kernel = Kernel.plain if on_gpu else load_kernel(config.kernel, cache_dir)
    return Runtime(device, precision, kernel, cache_dir, processes)


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed every generator that weights and dropout masks are drawn from.

    Args:
        seed: the run's.
        rank: of the process; each draws numbers of its own.
    """
    # A CPU's generator takes 32 bits and forgets the rest.
    mixed = np.random.SeedSequence([seed, rank]).generate_state(1).item()
    torch.manual_seed(mixed if rank > 0 else seed)


@contextlib.contextmanager
def memory_advice(config: RunConfig) -> Iterator[None]:
    """Say what to lower where memory runs out.

    Raises:
        UserError: in place of the allocator's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        if not on_gpu and isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        now = flatten(config)
        advice = ", ".join(f"{name} (now {now[name]})" for name in TAKE_MEMORY if name in now)
        raise UserError(f"out of {'GPU ' if on_gpu else ''}memory; lower {advice}") from error


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
        "processes": runtime.processes.count,
        "precision": runtime.precision.value,
        "kernel": runtime.kernel.value,
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


def _leave_compiler_out() -> None:
    # At the first call of these torch imports its compiler, more than a second's work, only to say
    # that they are not to be compiled; nothing here is.
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        method = getattr(torch.optim.Optimizer, name)
        if (eager := getattr(method, "__wrapped__", None)) is not None:
            vars(eager).setdefault("__dynamo_disable", eager)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _choose_device(device: Device) -> torch.device:
    available = torch.cuda.is_available()
    if device is Device.cuda and not available:
        raise UserError("runtime.device=cuda: torch finds no GPU here; use cpu or auto")
    if not available or device is Device.cpu:
        return torch.device("cpu")
    gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > gpus:
        raise UserError(
            f"{processes} processes find {gpus} GPUs on this machine, expected one for each; use "
            f"--nproc-per-node={gpus}, or runtime.device=cpu"
        )
    found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(found)
    return found


def _choose_precision(asked: Precision, trained_in: Precision, device: torch.device) -> Precision:
    if device.type == "cuda":
        native = possible = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        possible = native or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if asked is Precision.bfloat16 and not possible:
        raise UserError(
            f"runtime.precision=bfloat16: this {'GPU' if device.type == 'cuda' else 'processor'} "
            "does not have it; use float32 or auto"
        )
    if asked is not Precision.auto:
        return asked
    if trained_in is Precision.float32 or (trained_in is Precision.bfloat16 and possible):
        return trained_in
    if trained_in is Precision.bfloat16:
        log.info("trained in bfloat16, which this machine lacks: float32 moves the last digits")
    return Precision.bfloat16 if native else Precision.float32


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
