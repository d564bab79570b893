import pytest
import torch

from sentiment.config import Device, Precision, RuntimeConfig
from sentiment.errors import UserError
from sentiment.training.runtime import describe_environment, prepare


def settings(device: Device, precision: Precision = Precision.auto) -> RuntimeConfig:
    return RuntimeConfig(device, precision, threads=2, cache_dir=".")


def test_subnormal_numbers_are_flushed() -> None:
    prepare(settings(Device.cpu))
    tiny, scale = torch.full((1_000_000,), 1e-30), torch.full((1_000_000,), 1e-10)
    assert (tiny * scale).count_nonzero() == 0  # large enough for every thread to have a part


def test_the_chosen_precision_reaches_the_products() -> None:
    for precision, dtype in (
        (Precision.float32, torch.float32),
        (Precision.bfloat16, torch.bfloat16),
    ):
        with prepare(settings(Device.cpu, precision)).autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert prepare(settings(Device.cpu)).precision is not Precision.auto


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
