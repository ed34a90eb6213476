"""Which device a process uses, what it leaves of it, and how its float32 is computed."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from detector.errors import UserError
from detector.training.deterministic import deterministic_kernels
from detector.training.devices import current_device, fork_rng, to_device
from detector.training.distributed import local_device
from tests.small_runs import Silent, trainer


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before any process touches a GPU, so that none opens a context on the first one."""
    assert local_device("cuda:1") == "cuda:1"  # a single process takes what it is given
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert local_device("cuda") == "cuda:1"
    assert local_device("cpu") == "cpu"
    with pytest.raises(UserError, match="several processes cannot share cuda:0"):
        local_device("cuda:0")


def test_the_states_of_this_device_alone_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a list of devices, torch would touch every GPU, and warn of it."""
    asked: list[object] = []
    fork = torch.random.fork_rng
    monkeypatch.setattr(
        torch.random, "fork_rng", lambda devices: asked.append(devices) or fork(devices=[])
    )
    before = torch.random.get_rng_state()
    for name in ("cpu", "cuda:1"):
        with fork_rng(torch.device(name)):
            torch.rand(1)
    assert asked == [[], [torch.device("cuda:1")]]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_gpu_is_the_current_one_within() -> None:
    inner = current_device(torch.device("cuda:1"))
    assert isinstance(inner, torch.cuda.device)
    assert inner.idx == 1
    with current_device(torch.device("cpu")):
        pass


def test_every_tensor_of_a_batch_goes_to_the_device() -> None:
    batch = torch.ones(1), [{"boxes": torch.ones(2), "image_id": 3}]
    images, (target,) = to_device(batch, torch.device("meta"))
    assert images.is_meta
    assert target["boxes"].is_meta
    assert target["image_id"] == 3


@pytest.mark.parametrize(
    ("precision", "mode"), [("fp32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")]
)
def test_float32_is_rounded_to_tf32_only_where_the_recipe_says_so(
    tmp_path: Path, precision: str, mode: str
) -> None:
    seen: set[str] = set()

    class Watch(Silent):
        def batch(self, look: Mapping[str, float] | None) -> None:
            for backend in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
                seen.add(backend.fp32_precision)

    before = torch.backends.cudnn.conv.fp32_precision
    trainer(tmp_path, 2, epochs=1, precision=precision).run(Watch())
    assert seen == {mode}
    assert torch.backends.cudnn.conv.fp32_precision == before


def test_an_operation_without_a_deterministic_kernel_ends_a_run_that_requires_them() -> None:
    index, value = torch.tensor([0]), torch.tensor([1.0])
    with (
        pytest.raises(UserError, match=r"^training\.deterministic: put_ does not have a determin"),
        deterministic_kernels(required=True),
    ):
        torch.zeros(3).put_(index, value)
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_kernels(required=False):
        assert torch.zeros(3).put_(index, value).tolist() == [1, 0, 0]
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="something else"), deterministic_kernels(required=True):
        raise RuntimeError("something else")
