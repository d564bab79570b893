"""A bidirectional LSTM layer for CPUs, compiled from `lstm/` when it is first needed.

Shapes: T time, B batch, N = T * B, D direction (2), E input width, H hidden size of one direction,
G = 4H gates in PyTorch's order (input, forget, cell candidate, output); within `_Layer` by groups
of 16 units, as `lstm/` has them (`_by_units`).
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from sentiment.config import Kernel
from sentiment.errors import UserError

log = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("lstm")
OPTIONS = ("-std=c++20", "-fopenmp", "-fPIC", "-shared", "-O3", "-march=native")
DTYPES = (torch.float32, torch.bfloat16)
CACHED = 1 << 20
"""Bytes of a direction's weights that each step can read without waiting for a core's cache."""

_library: ctypes.CDLL | None = None


def load_kernel(asked: Kernel, cache_dir: Path) -> Kernel:
    """Choose what computes this process's LSTM layers on a CPU.

    Args:
        asked: `auto` takes the compiled kernel where it can be had.
        cache_dir: where it is kept once built.

    Returns:
        What will be used.

    Raises:
        UserError: `compiled`, and it cannot be had.
    """
    global _library
    _library = None
    if asked is not Kernel.plain:
        try:
            _library = ctypes.CDLL(str(_built(cache_dir)))
            _library.lstm_has_tiles.restype = ctypes.c_bool
        except (OSError, UserError) as error:
            if asked is Kernel.compiled:
                raise UserError(f"runtime.kernel=compiled: {error}; use plain or auto") from error
            log.info("PyTorch's own LSTM is used, not the faster compiled one: %s", error)
    return Kernel.plain if _library is None else Kernel.compiled


def can_run(x_TBE: Tensor, hidden_size: int) -> bool:
    """Whether `bidirectional_layer` is there for this input: on a CPU, for 16, 32, 48 ... units."""
    fits = x_TBE.device.type == "cpu" and _dtype(x_TBE) in DTYPES and hidden_size % 16 == 0
    # A call of the library cannot be exported.
    return _library is not None and fits and not torch.compiler.is_exporting()


def bidirectional_layer(
    x_TBE: Tensor, lengths_B: Tensor, w_DGE: Tensor, w_DGH: Tensor, bias_DG: Tensor
) -> Tensor:
    """One layer of both directions, each over a review's own tokens.

    Products take bfloat16 inputs under autocast, sums and cells are float32.

    Args:
        x_TBE: inputs; whatever finite numbers stand past a review's length make no difference.
        lengths_B: int64 lengths, 1 to T.
        w_DGE: weights of the inputs.
        w_DGH: weights of the hidden states.
        bias_DG: the sum of PyTorch's two biases.

    Returns:
        Hidden states `[T, B, D * H]`, 0 past each length.
    """
    if int(lengths_B.max()) > len(x_TBE):
        raise ValueError(f"a length of {int(lengths_B.max())} in a batch of {len(x_TBE)} steps")
    tensors = [tensor.to(_dtype(x_TBE)) for tensor in (x_TBE, w_DGE, w_DGH)]
    out_TBH: Tensor = _Layer.apply(  # type: ignore[no-untyped-call]
        lengths_B.contiguous(), *tensors, bias_DG.float()
    )
    return out_TBH


def product(a_MK: Tensor, b_KN: Tensor, onto_MN: Tensor | None = None) -> Tensor:
    """The product of two matrices on a CPU, added to a third if there is one, in place.

    PyTorch multiplies bfloat16 by oneDNN and float32 by MKL, which is the slower one on AMD's
    processors and the faster one on Intel's (docs/performance.md).
    """
    if a_MK.dtype == torch.float32 and "GenuineIntel" not in _processor():
        product_MN: Tensor = torch.ops.mkldnn._linear_pointwise(a_MK, b_KN.T, None, "none", [], "")
        return product_MN if onto_MN is None else onto_MN.add_(product_MN)
    return a_MK @ b_KN if onto_MN is None else onto_MN.addmm_(a_MK, b_KN)


class _Layer(torch.autograd.Function):
    """The recurrence is the library's; products of all time steps at once are PyTorch's."""

    @staticmethod
    def forward(
        ctx: Any, lengths_B: Tensor, x_TBE: Tensor, w_DGE: Tensor, w_DGH: Tensor, bias_DG: Tensor
    ) -> Tensor:
        (T, B, E), (D, G, H) = x_TBE.shape, w_DGH.shape
        learns = any(ctx.needs_input_grad)
        out_TBH = x_TBE.new_empty(T, B, D * H)
        cells = x_TBE.new_empty(D, T if learns else 0, B, H, dtype=torch.float32)
        w_DGE, w_DGH = (_by_units(w_DGK, H) for w_DGK in (w_DGE, w_DGH))
        # A step multiplies its input along with its state, or finds its product done.
        ahead = (E + H) * G * x_TBE.element_size() > CACHED
        if ahead:
            gates_D = [product(x_TBE.flatten(0, 1), w_GE.T) for w_GE in w_DGE]
        else:
            gates_D = [x_TBE.new_empty(T * B if learns else 0, G) for _ in range(D)]
        w_DGK = w_DGH if ahead else torch.cat([w_DGE, w_DGH], dim=2)
        # Matrix units take 32 rows of weights at once.
        w_DGK = torch.nn.functional.pad(w_DGK, (0, -w_DGK.shape[2] % 32))
        w_DKG, bias_DG = w_DGK.transpose(1, 2).contiguous(), _by_units(bias_DG, H)
        tensors = (*gates_D, w_DKG, bias_DG, out_TBH, cells, lengths_B)
        _call("forward", (x_TBE.contiguous(), *tensors), (T, B, 0 if ahead else E, H, learns))
        if learns:
            ctx.save_for_backward(lengths_B, x_TBE, w_DGE, w_DGH, out_TBH, cells)
            ctx.gates_D = gates_D
        return out_TBH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_TBH: Tensor) -> tuple[Tensor | None, ...]:
        lengths_B, x_TBE, w_DGE, w_DGH, out_TBH, cells = ctx.saved_tensors
        # Overwritten by their own gradients: they are the largest tensor by far.
        gates_D, ctx.gates_D = ctx.gates_D, None
        if gates_D is None:
            raise RuntimeError("the compiled LSTM layer can be differentiated only once")
        (T, B, E), H = x_TBE.shape, w_DGH.shape[2]
        tensors = (*gates_D, w_DGH.contiguous(), gradient_TBH.contiguous(), cells, lengths_B)
        _call("backward", tensors, (T, B, H))
        (right_NG, left_NG), x_gradient_TBE = gates_D, None
        if ctx.needs_input_grad[1]:
            x_gradient_NE = product(left_NG, w_DGE[1], product(right_NG, w_DGE[0]))
            x_gradient_TBE = x_gradient_NE.view_as(x_TBE)
        gradients_DGK = x_TBE.new_empty(2, 4 * H, E + H + 1)
        found_D = _weight_gradients(x_TBE, out_TBH, gates_D)
        for found_KG, gradient_GK in zip(found_D, gradients_DGK, strict=True):
            _transpose(found_KG, gradient_GK)
        gradients_DGK = gradients_DGK.view(2, H // 16, 4, 16, -1).transpose(1, 2).flatten(1, 3)
        inputs_DGE, recurrent_DGH, bias_DG1 = gradients_DGK.split((E, H, 1), dim=2)
        return None, x_gradient_TBE, inputs_DGE, recurrent_DGH, bias_DG1.squeeze(2).float()


def _weight_gradients(x_TBE: Tensor, out_TBH: Tensor, gates_D: list[Tensor]) -> Sequence[Tensor]:
    """Of each direction, `[K, G]`: of the inputs' weights, the states' and the bias."""
    (T, B, E), H, (right_NG, left_NG) = x_TBE.shape, out_TBH.shape[2] // 2, gates_D
    x_TBE, K = x_TBE.contiguous(), E + H + 1
    if _has_tiles(x_TBE):
        gradients_DKG = x_TBE.new_empty(2, K, 4 * H)
        _call("weights", (x_TBE, out_TBH, *gates_D, gradients_DKG), (T * B, B, E, H))
        return gradients_DKG.unbind()
    # One product for all of a direction. We transpose its operands ourselves: oneDNN multiplies a
    # transposed bfloat16 matrix at half of its rate.
    operands_KN = x_TBE.new_empty(K, T * B)
    x_EN, h_HN, one_1N = operands_KN[:E], operands_KN[E:-1], operands_KN[-1:]
    _transpose(x_TBE.flatten(0, 1), x_EN)
    one_1N.fill_(1)
    # A state takes part in the next step of its direction; the first step has none before it.
    _transpose(out_TBH[:-1, :, :H].flatten(0, 1), h_HN[:, B:])
    h_HN[:, :B] = 0
    right_KG = product(operands_KN, right_NG)
    _transpose(out_TBH[1:, :, H:].flatten(0, 1), h_HN[:, :-B])
    h_HN[:, -B:] = 0
    return right_KG, product(operands_KN, left_NG)


def _by_units(w_DG: Tensor, hidden_size: int) -> Tensor:
    """Gates in the library's order, `[H / 16, 4, 16]`, from PyTorch's, `[4, H]`."""
    w_D4UG = w_DG.view(2, 4, hidden_size // 16, 16, *w_DG.shape[2:])
    return w_D4UG.transpose(1, 2).flatten(1, 3)


def _dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _has_tiles(x: Tensor) -> bool:
    """Whether the processor multiplies it by tiles."""
    assert _library is not None
    return x.dtype == torch.bfloat16 and bool(_library.lstm_has_tiles())


def _transpose(x_NE: Tensor, out_EN: Tensor) -> None:
    _call("transpose", (x_NE, out_EN), (*x_NE.shape, x_NE.stride(0), out_EN.stride(0)))


def _call(name: str, tensors: tuple[Tensor, ...], sizes: tuple[int, ...]) -> None:
    dtype = str(tensors[0].dtype).removeprefix("torch.")
    function = getattr(_library, f"lstm_{name}_{dtype}")
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    function(*pointers, *map(ctypes.c_int64, sizes), torch.get_num_threads())


def _built(cache_dir: Path) -> Path:
    """The library, built if need be.

    Raises:
        UserError: this machine cannot build it.
    """
    if sys.platform != "linux" or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        raise UserError("it needs Linux and a processor with AVX2")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise UserError("it needs the compiler g++")
    sources = [file.read_bytes() for file in sorted(SOURCES.glob("*.[ch]*"))]
    depends_on = (sources, " ".join(OPTIONS), torch.__version__, _processor())
    key = hashlib.sha256(repr((compiler, *depends_on)).encode()).hexdigest()[:16]
    library = cache_dir / "kernel" / f"lstm-{key}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(library.with_suffix(".lock")),
        tempfile.TemporaryDirectory(dir=library.parent) as folder,
    ):
        if library.exists():
            return library
        log.info("compiling the LSTM kernel, once for this machine (%s)", library)
        torch_dir = Path(torch.__file__).parent
        command = [compiler, *OPTIONS, str(SOURCES / "layer.cpp"), f"-I{torch_dir / 'include'}"]
        command += [f"-L{torch_dir / 'lib'}", "-ltorch_cpu", "-lc10"]
        temporary = Path(folder) / library.name
        done = subprocess.run([*command, "-o", temporary], capture_output=True, text=True)
        if done.returncode != 0:
            errors = (line for line in done.stderr.splitlines() if "error" in line)
            raise UserError(f"{compiler} failed: {next(errors, done.stderr.strip())}")
        temporary.replace(library)
    return library


@functools.cache
def _processor() -> str:
    """Who made it and what it can do: what `-march=native` and the faster product depend on."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = {line.partition("\t")[0]: line for line in reversed(lines)}
    return "\n".join(found.get(name, "") for name in ("vendor_id", "flags"))
