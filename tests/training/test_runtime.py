import pytest
import torch

from sentiment.config import Device, Precision, RuntimeConfig
from sentiment.errors import UserError
from sentiment.training import runtime
from sentiment.training.runtime import describe_environment, prepare


def settings(device: Device, precision: Precision = Precision.auto) -> RuntimeConfig:
    return RuntimeConfig(device, precision, threads=2, cache_dir=".")


def test_subnormal_numbers_are_flushed() -> None:
    prepare(settings(Device.cpu))
    tiny, scale = torch.full((1_000_000,), 1e-30), torch.full((1_000_000,), 1e-10)
    assert (tiny * scale).count_nonzero() == 0  # large enough for every thread to have a part


HAS_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.float32, torch.float32),
        pytest.param(
            *(Precision.bfloat16, torch.bfloat16),
            marks=pytest.mark.skipif(not HAS_BFLOAT16, reason="no bfloat16 on this processor"),
        ),
    ],
)
def test_the_chosen_precision_reaches_the_products(
    precision: Precision, dtype: torch.dtype
) -> None:
    with prepare(settings(Device.cpu, precision)).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_auto_is_the_precision_of_training_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert prepare(settings(Device.cpu)).precision is not Precision.auto
    monkeypatch.setattr(runtime, "_has_native_bfloat16", lambda _: True)
    for trained_in in (Precision.float32, Precision.bfloat16):
        assert prepare(settings(Device.cpu), trained_in).precision is trained_in
    asked = settings(Device.cpu, Precision.float32)
    assert prepare(asked, Precision.bfloat16).precision is Precision.float32

    # A checkpoint from a newer machine still works, and the log says what differs.
    monkeypatch.setattr(runtime, "_has_native_bfloat16", lambda _: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert prepare(settings(Device.cpu), Precision.bfloat16).precision is Precision.float32
    assert "trained in bfloat16" in caplog.text
    with pytest.raises(UserError, match=r"runtime\.precision=bfloat16"):
        prepare(settings(Device.cpu, Precision.bfloat16))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused_when_asked_for() -> None:
    with pytest.raises(UserError, match=r"runtime\.device=cuda"):
        prepare(settings(Device.cuda))
    assert prepare(settings(Device.auto)).device.type == "cpu"


def test_the_environment_names_what_figures_depend_on() -> None:
    environment = describe_environment(prepare(settings(Device.cpu, Precision.float32)))
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["precision"] == "float32"
    assert environment["threads"] == 2
    assert environment["device"]
