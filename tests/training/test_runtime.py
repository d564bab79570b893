import pytest
import torch

from sentiment.config import Device, Kernel, Precision, RuntimeConfig
from sentiment.errors import UserError
from sentiment.training.runtime import (
    describe_environment,
    memory_advice,
    prepare,
    seed_everything,
)
from tests.conftest import compose_train

CPU_HAS_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


def settings(device: Device, precision: Precision = Precision.auto) -> RuntimeConfig:
    return RuntimeConfig(device, precision, 2, False, ".", Kernel.plain)


def test_subnormal_numbers_are_flushed() -> None:
    prepare(settings(Device.cpu))
    tiny, scale = torch.full((1_000_000,), 1e-30), torch.full((1_000_000,), 1e-10)
    assert (tiny * scale).count_nonzero() == 0  # large enough for every thread to have a part


def test_float32_stays_float32() -> None:
    with prepare(settings(Device.cpu, Precision.float32)).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_bfloat16_reaches_the_lstm_or_is_refused() -> None:
    if not CPU_HAS_BFLOAT16:
        with pytest.raises(UserError, match=r"runtime\.precision=bfloat16.*float32"):
            prepare(settings(Device.cpu, Precision.bfloat16))
        return
    with prepare(settings(Device.cpu, Precision.bfloat16)).autocast():
        output, _ = torch.nn.LSTM(2, 2)(torch.ones(2, 2, 2))
    assert output.dtype == torch.bfloat16


@pytest.mark.parametrize("possible", [True, False])
def test_a_checkpoint_is_read_in_its_own_precision_where_the_processor_has_it(
    possible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: possible)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: possible)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: possible)
    automatic = settings(Device.cpu)
    here = Precision.bfloat16 if possible else Precision.float32
    assert prepare(automatic).precision is here
    assert prepare(automatic, trained_in=Precision.bfloat16).precision is here
    assert prepare(automatic, trained_in=Precision.float32).precision is Precision.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused_when_asked_for() -> None:
    with pytest.raises(UserError, match=r"runtime\.device=cuda"):
        prepare(settings(Device.cuda))
    assert prepare(settings(Device.auto)).device.type == "cpu"


def test_every_process_draws_numbers_of_its_own() -> None:
    drawn = []
    for rank in range(4):
        seed_everything(0, rank)
        drawn.append(torch.rand(8))
    assert len({tuple(numbers.tolist()) for numbers in drawn}) == 4
    torch.manual_seed(0)
    assert torch.equal(drawn[0], torch.rand(8))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"3 processes find 2 GPUs on this machine"):
        prepare(settings(Device.auto))


def test_the_environment_names_what_figures_depend_on() -> None:
    environment = describe_environment(prepare(settings(Device.cpu, Precision.float32)))
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["precision"] == "float32"
    assert environment["threads"] == 2
    assert environment["device"]


def test_where_memory_runs_out_the_line_says_what_to_lower() -> None:
    config = compose_train("data.max_tokens_per_batch=1000")
    advice = r"out of memory; lower data\.max_tokens_per_batch \(now 1000\), trainer\.batch_size"
    with pytest.raises(UserError, match=advice), memory_advice(config):
        torch.empty(2**58)
    with pytest.raises(UserError, match="out of GPU memory"), memory_advice(config):
        raise torch.OutOfMemoryError
    with pytest.raises(RuntimeError, match="size mismatch"), memory_advice(config):
        raise RuntimeError("size mismatch")
