"""The same ablation on a live model and on a file reaches the same elements, and is undone."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied, elements_changed, encoded
from ablate_kit.ablations.edits import Blocks, Edit, Random
from ablate_kit.ablations.name_patterns import file_name
from ablate_kit.ablations.receipt import made_by
from ablate_kit.ablations.variant_files import write_variants
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.tensors import Storage, TensorInfo
from ablate_kit.errors import UserError

EDITS = (
    Edit("0.weight", Random(5, 42, 0)),
    Edit("0.bias"),
    Edit("1.weight", Blocks(1, ((0, 2), (3, 4))), 0.25),
    Edit("1.weight", Blocks(0, ((1, 2),))),
    Edit("2.scale"),
)
ABLATION = Ablation("mixed", "component", EDITS)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))  # no dimensions at all


def model(dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 3), nn.Linear(5, 4), Scale()).to(dtype)


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_live_and_file_agree_bit_for_bit(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    module = model(dtype)
    source, target = tmp_path / f"m{suffix}", tmp_path / f"v{suffix}"
    if suffix == ".pth":
        torch.save({"model": module.state_dict(), "epoch": 3}, source)
    else:
        safetensors.torch.save_file(module.state_dict(), source)
    with open_checkpoint(source) as checkpoint:
        write_variants(checkpoint, {target: ABLATION})
    with applied(module, ABLATION), open_checkpoint(target) as variant:
        assert same(variant.state_dict(), module.state_dict())
    assert not same(snapshot(model(dtype)), safetensors_or_torch(target))
    with open_checkpoint(target) as variant:
        assert made_by(variant) == ABLATION


def safetensors_or_torch(path: Path) -> dict[str, torch.Tensor]:
    with open_checkpoint(path) as checkpoint:
        return checkpoint.state_dict()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "float8_e4m3fn"])
def test_values_are_rounded_as_torch_rounds_them(dtype: str) -> None:
    generator = np.random.default_rng(0)
    values = tuple(generator.standard_normal(2000) * 10.0 ** generator.integers(-9, 9, 2000))
    values += (1e300, -1e300, 65519.9999999999, 2049.0000001, 1 + 2**-11 + 2**-40)
    storage = Storage(Path("x"), "0", 0, 8)
    info = TensorInfo(dtype, (1,), (1,), 0, storage, "x", ("x",))
    expected = torch.tensor(values, dtype=getattr(torch, dtype)).view(torch.uint8)
    assert encoded(values, info) == expected.numpy().tobytes()
    assert encoded(values[0], info) == encoded(values[:1], info)


def test_edits_do_what_they_say() -> None:
    module = model()
    before = snapshot(module)
    with applied(module, ABLATION):
        after = snapshot(module)
    changed = (after["0.weight"] != before["0.weight"]).flatten().nonzero().flatten().tolist()
    assert changed == Random(5, 42, 0).indices("0.weight", (3, 4)).tolist()
    assert after["0.bias"].tolist() == [0, 0, 0]
    assert after["1.weight"][0, [0, 1, 3]].tolist() == [0.25] * 3
    assert after["1.weight"][0, 2] == before["1.weight"][0, 2]
    assert after["1.weight"][1].tolist() == [0] * 5  # the later edit counts
    assert after["2.scale"] == 0
    assert same({"1.bias": after["1.bias"]}, {"1.bias": before["1.bias"]})


def test_the_exact_bytes_come_back_also_after_an_exception() -> None:
    module = model()
    before = snapshot(module)
    with applied(module, ABLATION):
        assert not same(before, snapshot(module))
    assert same(before, snapshot(module))
    with pytest.raises(ZeroDivisionError), applied(module, ABLATION):
        raise ZeroDivisionError
    assert same(before, snapshot(module))


def test_nan_and_minus_zero_come_back_too() -> None:
    module = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[float("nan"), -0.0]]))
    bits = module.weight.view(torch.int32).tolist()
    with applied(module, Ablation("a", "component", (Edit("weight"),))):
        assert module.weight.tolist() == [[0.0, 0.0]]
    assert module.weight.view(torch.int32).tolist() == bits


def test_a_failing_edit_undoes_those_before_it() -> None:
    module = model()
    before = snapshot(module)
    wrong = Ablation("a", "component", (Edit("0.bias"), Edit("1.weight", Blocks(1, ((4, 9),)))))
    with pytest.raises(UserError, match=r"1.weight of shape \(4, 5\) has no Blocks"):
        applied(module, wrong).__enter__()
    assert same(before, snapshot(module))


def test_an_edit_reaches_every_module_that_shares_the_tensor() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    before = snapshot(module)
    with applied(module, Ablation("a", "component", (Edit("0.weight"), Edit("1.weight")))):
        assert not module[1].weight.any()
    assert same(before, snapshot(module))


def test_names_of_the_file_are_translated() -> None:
    module = model()
    with applied(module, Ablation("a", "component", (Edit("x"),)), {"x": ("0.bias", "1.bias")}):
        assert not module[0].bias.any()
        assert not module[1].bias.any()
    with pytest.raises(UserError, match='no tensor "0\\.bais"; did you mean "0\\.bias"'):
        applied(module, Ablation("a", "component", (Edit("0.bais"),))).__enter__()


def test_gradients_and_parameters_stay_what_they_are() -> None:
    module = model()
    with applied(module, ABLATION):
        assert all(p.requires_grad and p.is_leaf for p in module.parameters())
        assert isinstance(module[0].weight, nn.Parameter)


def test_integers_are_not_cut(tmp_path: Path) -> None:
    module = nn.BatchNorm1d(3)
    count = Ablation("a", "component", (Edit("num_batches_tracked"),))
    with pytest.raises(UserError, match="only floating tensors can be cut"):
        applied(module, count).__enter__()
    safetensors.torch.save_file(module.state_dict(), tmp_path / "m.safetensors")
    with (
        open_checkpoint(tmp_path / "m.safetensors") as checkpoint,
        pytest.raises(UserError, match="only floating tensors can be cut"),
    ):
        write_variants(checkpoint, {tmp_path / "v.safetensors": count})
    assert not (tmp_path / "v.safetensors").exists()


def test_an_existing_output_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    safetensors.torch.save_file(model().state_dict(), tmp_path / "m.safetensors")
    (tmp_path / "b.safetensors").write_text("mine")
    targets = {tmp_path / f"{name}.safetensors": ABLATION for name in ("a", "b")}
    with (
        open_checkpoint(tmp_path / "m.safetensors") as checkpoint,
        pytest.raises(UserError, match=r"b\.safetensors exists"),
    ):
        write_variants(checkpoint, targets)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.safetensors", "m.safetensors"]
    assert (tmp_path / "b.safetensors").read_text() == "mine"


def test_counting_what_an_ablation_changes() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in model().state_dict().items()}
    assert elements_changed(ABLATION, shapes) == 5 + 3 + 12 + 5 + 1


def test_file_names_of_patterns() -> None:
    assert file_name("decoder.layers.{layer}.ffn", "0-2") == "decoder.layers.0-2.ffn"
    assert file_name("a.*.**.{0-5}/x y") == "a.all.all.0-5_x_y"
