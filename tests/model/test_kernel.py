import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.config import Kernel
from sentiment.errors import UserError
from sentiment.model import kernel
from sentiment.model.encoder import Encoder
from sentiment.model.kernel import bidirectional_layer, load_kernel, product
from tests.model.test_encoder import reference_for, run_packed

# T time, B batch, E input width, H hidden size of one direction.

CACHE = Path(os.environ["SENTIMENT_CACHE"])

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512") or not shutil.which("g++"),
    reason="the kernel needs a processor with AVX2, and g++",
)


@pytest.fixture(autouse=True)
def compiled() -> Iterator[None]:
    assert load_kernel(Kernel.compiled, CACHE) is Kernel.compiled
    yield
    load_kernel(Kernel.plain, CACHE)


def compare(
    lengths: list[int],
    width: int,
    hidden: int,
    layers: int,
    seed: int,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """Hold outputs, final states and gradients to those of a packed float32 `nn.LSTM`.

    Each may differ by `tolerance` times its largest number.
    """
    torch.manual_seed(seed)
    E, T, B, H = width, max(lengths) + 1, len(lengths), hidden
    lengths_B = torch.tensor(lengths)
    encoder = Encoder(E, H, layers, dropout=0.0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(parameter.to(dtype))
    reference = reference_for(encoder, E, H, layers)
    x_TBE = torch.randn(T, B, E).to(dtype).float().requires_grad_()
    seen = torch.randn(T, B, 2 * H), torch.randn(B, 2 * H)

    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        ours = encoder(x_TBE, lengths_B)
    assert all(tensor.dtype is dtype for tensor in ours)
    theirs = run_packed(reference, x_TBE, lengths_B)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.float(), other, atol=tolerance, rtol=0)

    losses = [
        sum((a * b).sum() for a, b in zip(each, seen, strict=True)) for each in (ours, theirs)
    ]
    mine, expected = (
        dict(zip(["x", *names], torch.autograd.grad(loss, [x_TBE, *parameters]), strict=True))
        for loss, model in zip(losses, (encoder, reference), strict=True)
        for names, parameters in [zip(*model.named_parameters(), strict=True)]
    )
    for name, gradient in mine.items():
        direction, _, rest = name.partition(".")
        suffix = "_reverse" if direction == "right_to_left" else ""
        layer, _, weight = rest.partition(".")
        other = expected[weight.replace("_l0", f"_l{layer}") + suffix if rest else name]
        atol = tolerance * max(1.0, other.abs().max().item())
        torch.testing.assert_close(gradient, other, atol=atol, rtol=0, msg=lambda m, n=name: n + m)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 17), min_size=1, max_size=40),
    width=st.integers(1, 40),
    hidden=st.sampled_from([16, 32, 48, 64, 80, 128]),
    layers=st.integers(1, 2),
    seed=st.integers(0, 2**31),
    cached=st.sampled_from([0, kernel.CACHED]),
)
def test_equals_packed_lstm_in_outputs_final_states_and_gradients(
    lengths: list[int], width: int, hidden: int, layers: int, seed: int, cached: int
) -> None:
    with mock.patch.object(kernel, "CACHED", cached):
        compare(lengths, width, hidden, layers, seed, torch.float32, tolerance=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 17), min_size=1, max_size=40),
    width=st.integers(1, 40),
    hidden=st.sampled_from([16, 48, 64, 128]),
    seed=st.integers(0, 2**31),
    cached=st.sampled_from([0, kernel.CACHED]),
)
def test_in_bfloat16_it_stays_within_the_rounding_of_that_format(
    lengths: list[int], width: int, hidden: int, seed: int, cached: int
) -> None:
    with mock.patch.object(kernel, "CACHED", cached):
        compare(lengths, width, hidden, 2, seed, torch.bfloat16, tolerance=0.03)


@pytest.mark.parametrize("threads", [1, 5, 16])
def test_many_tokens_on_many_threads(threads: int) -> None:
    # 70 rows of up to 37 steps: several blocks of rows, and several pieces of a weight's gradient.
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compare([1 + row * 7 % 36 for row in range(70)], 33, 48, 2, 0, torch.bfloat16, 0.03)
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_changes_nothing() -> None:
    torch.manual_seed(0)
    encoder, lengths_B = Encoder(6, 32, 2, dropout=0.0), torch.randint(1, 30, (70,))
    x_TBE = torch.randn(30, 70, 6)
    before, outputs = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        outputs.append(encoder(x_TBE, lengths_B)[0])
    torch.set_num_threads(before)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("maker", ["GenuineIntel", "AuthenticAMD"])
def test_products_are_right_whoever_made_the_processor(
    maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_processor", lambda: f"vendor_id : {maker}")
    torch.manual_seed(0)
    a_MK, b_KN, onto_MN = torch.randn(70, 33), torch.randn(33, 50), torch.randn(70, 50)
    right_MN = a_MK.double() @ b_KN.double()
    assert torch.allclose(product(a_MK, b_KN).double(), right_MN, atol=1e-5)
    right_MN += onto_MN
    found_MN = product(a_MK, b_KN, onto_MN)
    assert torch.allclose(found_MN.double(), right_MN, atol=1e-5)
    assert found_MN.data_ptr() == onto_MN.data_ptr()


def test_an_evaluation_gives_what_training_gives() -> None:
    encoder, lengths_B = Encoder(6, 32, 2, dropout=0.0), torch.tensor([5, 9, 1])
    x_TBE = torch.randn(9, 3, 6)
    with torch.inference_mode():
        outputs = encoder(x_TBE, lengths_B)
    for evaluated, trained in zip(outputs, encoder(x_TBE, lengths_B), strict=True):
        assert torch.equal(evaluated, trained)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none(dtype: torch.dtype) -> None:
    encoder = Encoder(6, 16, 1, dropout=0.0)
    x_TBE = torch.zeros(4, 2, 6)
    x_TBE[2, 0] = torch.nan
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        outputs_TBH, _ = encoder(x_TBE, torch.tensor([4, 4]))
    assert outputs_TBH[2:, 0, :16].isnan().all()
    assert outputs_TBH[:3, 0, 16:].isnan().all()
    assert outputs_TBH[:, 1].isfinite().all()


def test_only_what_it_computes_is_said_to_be_computed() -> None:
    x_TBE = torch.zeros(1, 1, 1)
    assert kernel.can_run(x_TBE, 16)
    assert not kernel.can_run(x_TBE, 8)
    with torch.autocast("cpu", torch.float16):
        assert not kernel.can_run(x_TBE, 16)


def test_past_a_length_is_0_even_after_what_is_no_number() -> None:
    encoder = Encoder(6, 16, 1, dropout=0.0)
    x_TBE = torch.zeros(4, 2, 6)
    x_TBE[1, 0] = torch.nan
    outputs_TBH, _ = encoder(x_TBE, torch.tensor([2, 4]))
    assert (outputs_TBH[2:, 0] == 0).all()


def test_extreme_inputs_saturate_the_gates() -> None:
    encoder = Encoder(1, 16, 1, dropout=0.0)
    reference = reference_for(encoder, 1, 16, 1)
    lengths_B = torch.tensor([3] * 6)
    x_TBE = torch.tensor([1e4, -1e4, 1e30, -1e30, 3e38, -3e38]).expand(3, 6).unsqueeze(2)
    outputs, _ = encoder(x_TBE, lengths_B)
    torch.testing.assert_close(outputs, run_packed(reference, x_TBE, lengths_B)[0])


def layer_arguments() -> list[torch.Tensor]:
    shapes = (3, 2, 6), (2, 64, 6), (2, 64, 16), (2, 64)
    return [torch.randn(*shape, requires_grad=True) for shape in shapes]


def test_a_second_differentiation_is_refused() -> None:
    x_TBE, *weights = layer_arguments()
    loss = bidirectional_layer(x_TBE, torch.tensor([3, 1]), *weights).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        loss.backward()


def test_a_length_beyond_the_batch_is_refused() -> None:
    x_TBE, *weights = layer_arguments()
    with pytest.raises(ValueError, match="a length of 4 in a batch of 3 steps"):
        bidirectional_layer(x_TBE, torch.tensor([3, 4]), *weights)


def test_inputs_may_be_laid_out_in_any_way() -> None:
    x_TBE, *weights = layer_arguments()
    turned_TBE = x_TBE.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0)
    gradients = [
        torch.autograd.grad(bidirectional_layer(x, torch.tensor([3, 3]), *weights).sum(), weights)
        for x in (x_TBE, turned_TBE)
    ]
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_lengths_may_be_laid_out_in_any_way() -> None:
    x_TBE, *weights = layer_arguments()
    expected = bidirectional_layer(x_TBE, torch.tensor([3, 3]), *weights)
    torch.testing.assert_close(
        bidirectional_layer(x_TBE, torch.tensor([3]).expand(2), *weights), expected
    )


def test_no_gradient_of_what_needs_none() -> None:
    x_TBE, *weights = layer_arguments()
    bidirectional_layer(x_TBE.detach(), torch.tensor([3, 1]), *weights).sum().backward()
    assert x_TBE.grad is None
    assert all(weight.grad is not None for weight in weights)


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("no-such-compiler", "it needs the compiler"), ("false", r"false failed")],
)
def test_without_a_compiler_training_goes_on_without_the_kernel(
    compiler: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(
        UserError, match=f"runtime.kernel=compiled: .*{reason}.*; use plain or auto"
    ):
        load_kernel(Kernel.compiled, tmp_path)
    with caplog.at_level(logging.INFO):
        assert load_kernel(Kernel.auto, tmp_path) is Kernel.plain
    assert "not the faster compiled one" in caplog.text
    assert not kernel.can_run(torch.zeros(1, 1, 1), 16)


def test_a_library_that_cannot_be_loaded_is_no_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lstm.so").write_bytes(b"no library")
    monkeypatch.setattr(kernel, "_built", lambda _: tmp_path / "lstm.so")
    assert load_kernel(Kernel.auto, tmp_path) is Kernel.plain


@pytest.mark.slow
def test_two_processes_build_it_once(tmp_path: Path) -> None:
    code = (
        "import logging, pathlib, sys; logging.basicConfig(level=logging.INFO)\n"
        "from sentiment.config import Kernel; from sentiment.model.kernel import load_kernel\n"
        "load_kernel(Kernel.compiled, pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    logged = "".join(process.communicate()[1] for process in started)
    assert [process.returncode for process in started] == [0, 0]
    assert logged.count("compiling the LSTM kernel") == 1
    assert [path.suffix for path in (tmp_path / "kernel").iterdir() if path.is_file()].count(
        ".so"
    ) == 1


@pytest.mark.slow
def test_one_openmp_runtime_serves_torch_and_the_kernel() -> None:
    # Two of them would keep two pools of threads that fight for the same cores.
    code = (
        "import pathlib, sys, torch; from sentiment.config import Kernel\n"
        "from sentiment.model.kernel import load_kernel\n"
        "load_kernel(Kernel.compiled, pathlib.Path(sys.argv[1])); torch.ones(10**6).exp()\n"
        "maps = pathlib.Path('/proc/self/maps').read_text().splitlines()\n"
        "print({line.split()[-1] for line in maps if 'gomp' in line})"
    )
    command = [sys.executable, "-c", code, str(CACHE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("gomp") == 1
