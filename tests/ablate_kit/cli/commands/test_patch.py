"""Modules of one checkpoint in another: both ends are their checkpoints, bit for bit."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from ablate_kit.ablations.name_patterns import InModel
from ablate_kit.errors import UserError
from ablate_kit.sweeps.execution.live_variant import applied_variant
from ablate_kit.sweeps.recipes.donor_variants import groups_in_the_file, module_groups, patches
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.variants.taken_tensors import TakenTensor, different_tensors
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Run
from tests.hybrid_file import reweighted

STATE = {
    "a.w": torch.tensor([1.0, 2.0]),
    "a.n": torch.tensor([3, 4]),
    "b.0.w": torch.tensor([5.0]),
    "c": torch.tensor([7.0]),
}
OTHER = {name: TakenTensor(tensor + 2) for name, tensor in STATE.items()}


def test_modules_are_the_fewest_levels_that_tell_three_apart() -> None:
    names = ["model.enc.0.w", "model.enc.1.w", "model.dec.w", "model.head.w"]
    assert list(module_groups(names)) == ["model.enc", "model.dec", "model.head"]
    assert list(module_groups(names, 1)) == ["model"]
    assert list(module_groups(names, 3)) == [
        "model.enc.0", "model.enc.1", "model.dec", "model.head",
    ]  # fmt: skip
    assert module_groups(["w"]) == {"w": ["w"]}


def test_variants_are_modules_from_both_ends_and_the_line() -> None:
    groups = module_groups(list(STATE))
    made = {one.name: one for one in patches(STATE, OTHER, groups, [0.25, 0.5, 1, 1.5])}
    assert set(made["up to b"].tensors) == {"a.w", "a.n", "b.0.w"}
    assert set(made["from b"].tensors) == {"b.0.w", "c"}
    assert set(made["b"].tensors) == {"b.0.w"}
    assert made["up to c"].digest == made["from a"].digest == made["donor"].digest
    assert torch.equal(made["alpha 0.25"].tensors["a.w"].value, torch.tensor([1.5, 2.5]))
    assert torch.equal(made["alpha 1.5"].tensors["b.0.w"].value, torch.tensor([8.0]))
    assert torch.equal(made["alpha 0.25"].tensors["a.n"].value, STATE["a.n"])
    assert torch.equal(made["alpha 0.5"].tensors["a.n"].value, OTHER["a.n"].value)
    assert "alpha 1" not in made
    with pytest.raises(UserError, match="hold the same tensors"):
        patches(STATE, {}, {}, [])


def test_beyond_the_two_models_no_variance_falls_below_zero() -> None:
    """By the difference 1e-3 to 1e-4 goes on to -1.25e-4, and everything after it is NaN."""
    one = {"norm.running_var": torch.tensor([1e-3, 4.0, 0.0]), "norm.weight": torch.ones(3)}
    other = {"norm.running_var": torch.tensor([1e-4, 9.0, 1.0]), "norm.weight": torch.zeros(3)}
    taken = {name: TakenTensor(tensor) for name, tensor in other.items()}
    made = {
        x.name: {name: tensor.value for name, tensor in x.tensors.items()}
        for x in patches(one, taken, {"norm": [*one]}, [0.5, 1.25, -0.5])
    }
    half, beyond, before = (made[f"alpha {alpha}"] for alpha in ("0.5", "1.25", "-0.5"))
    assert torch.allclose(half["norm.running_var"], torch.tensor([5.5e-4, 6.5, 0.5]))
    expected = torch.tensor([1e-3 * 0.1**1.25, 4 * 2.25**1.25, 1.25])
    assert torch.allclose(beyond["norm.running_var"], expected)
    assert torch.equal(beyond["norm.weight"], torch.full((3,), -0.25))
    assert before["norm.running_var"].min() == 0


def test_modules_are_called_as_the_checkpoint_calls_them() -> None:
    """Hugging Face's module has `aifi` where its files have `encoder`."""
    names = ["model.aifi.0.w", "model.aifi.1.w", "model.head.w", "model.head.copy"]
    places = {"model.encoder.0.w": (names[0],), "model.encoder.1.w": (names[1],)}
    places |= {"model.head.w": (names[2], names[3])}
    model = SimpleNamespace(live_names=lambda: places)
    assert groups_in_the_file(model, names, 2) == {
        "model.encoder": names[:2], "model.head": names[2:]
    }  # fmt: skip


def test_what_the_model_splits_is_of_the_module_that_has_it_in_the_file() -> None:
    """RF-DETR's packed projections, which other modules hold in the running model."""
    split = [f"model.decoder.attn.{one}_proj.weight" for one in "qkv"]
    names = ["model.decoder.norm.weight", *split, "head.weight"]
    whole = {"transformer.decoder.norm.weight": (names[0],), "head.weight": (names[4],)}
    parts = {"transformer.decoder.attn.in_proj_weight": tuple(split)}
    model = SimpleNamespace(live_names=lambda: InModel(whole, parts))
    assert groups_in_the_file(model, names, 1) == {"transformer": names[:4], "head": names[4:]}
    assert [*groups_in_the_file(model, names, 3)] == [
        "transformer.decoder.norm", "transformer.decoder.attn", "head"
    ]  # fmt: skip


def test_tied_weights_are_of_one_module() -> None:
    def tied() -> nn.Module:
        model = nn.Module()
        model.model = nn.Module()
        model.model.encoder, model.model.neck = nn.Linear(2, 2), nn.Linear(2, 2)
        model.model.decoder = nn.Module()
        model.model.decoder.class_embed = nn.Linear(2, 3)
        model.class_embed = model.model.decoder.class_embed  # as in RT-DETR and its descendants
        return model

    first, other = (SimpleNamespace(module=tied()) for _ in range(2))
    taken = different_tensors(first, other)
    assert [name for name in taken if "class_embed" in name] == [
        "model.decoder.class_embed.weight", "model.decoder.class_embed.bias"
    ]  # fmt: skip
    assert [*module_groups([*taken])] == ["model.encoder", "model.neck", "model.decoder"]
    (variant,) = patches(first.module.state_dict(), taken, {"all": [*taken]}, [])
    with applied_variant(variant, first.module, {}):
        for name, tensor in first.module.state_dict().items():
            assert torch.equal(tensor, other.module.state_dict()[name])


@pytest.fixture
def donor(tmp_path: Path) -> Path:
    """The shipped detector with other weights in its neck and heads."""
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "donor.safetensors"
    with reweighted(SHAPES_TINY, path) as tensors:
        for name, tensor in tensors.items():
            if name.startswith(("neck.", "heads.")) and tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensors[name] = tensor + 0.1 * tensor.std(correction=0) * noise
    return path


def test_both_ends_are_their_checkpoints_and_the_run_goes_on(
    run: Run, refuse: Run, donor: Path, tmp_path: Path
) -> None:
    data = ("--shapes", "--limit", 3, "--resamples", 50)
    line = (*data, "--depth", 1, "--alpha", "0.5")
    out = tmp_path / "run"
    printed = run("patch", SHAPES_TINY, donor, *line, "-o", out)
    assert "2 modules differ, 8 variants on 3 images" in printed
    assert "donor changes AP by" in printed
    assert "one by one its modules sum to" in printed
    results = {one.name: one for one in Ledger.existing(out).results()}
    run("eval", SHAPES_TINY, donor, *data, "-o", tmp_path / "eval")
    whole = json.loads((tmp_path / "eval/results.json").read_text())["variants"]
    for name, end in (("model", "unmodified"), ("donor", "donor")):
        known = next(one for key, one in whole.items() if key.endswith(name))
        for key, value in known["overall"].items():
            assert results[end].evaluation.overall[key] == value, (end, key)
    again = tmp_path / "again"
    run("patch", SHAPES_TINY, donor, *line, "-o", again, "--no-replay")
    other = {one.name: one for one in Ledger.existing(again).results()}
    assert other.keys() == results.keys()
    for name, one in results.items():
        for field in ("boxes", "scores", "labels"):
            a, b = (getattr(x.detections, field) for x in (one, other[name]))
            assert np.array_equal(a, b), (name, field)
    # Nothing is left to be run; a folder of another donor is refused.
    ledger = (out / "ledger.jsonl").read_bytes()
    run("patch", SHAPES_TINY, donor, *line, "-o", out)
    assert (out / "ledger.jsonl").read_bytes() == ledger
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(donor.read_bytes())
    told = refuse("patch", donor, copy, *data, "-o", tmp_path / "none")
    assert "hold the same tensors" in told


def test_two_sets_of_weights_of_one_file(run: Run, donor: Path, tmp_path: Path) -> None:
    file = tmp_path / "best.pth"
    with safe_open(SHAPES_TINY, "pt") as opened:
        said = opened.metadata()
    torch.save({"model": load_file(SHAPES_TINY), "ema": load_file(donor), **said}, file)
    data = ("--shapes", "--limit", 2, "--resamples", 50, "--depth", 1, "--alpha", "1")
    printed = run("patch", file, file, "--donor-weights", "ema", *data, "-o", tmp_path / "one")
    assert "2 modules differ" in printed
    assert "ema changes AP by" in printed
    assert "against best" in printed
    of = ("--shapes", "--limit", 2, "--resamples", 0, "--json")
    both = json.loads(run("eval", file, file, "--other-weights", "ema", *of))["variants"]
    apart = json.loads(run("eval", SHAPES_TINY, donor, *of))["variants"]
    assert list(both) == ["best", "ema"]
    for ours, one in zip(both.values(), apart.values(), strict=True):
        assert ours["overall"] == one["overall"]
    assert both["best"]["overall"] != both["ema"]["overall"]


def test_what_cannot_be_patched_is_refused_in_a_line(
    refuse: Run, donor: Path, tmp_path: Path
) -> None:
    for arguments, told in (
        ((SHAPES_TINY, donor, "--shapes", "--resamples", 0), "--resamples is 0"),
        ((SHAPES_TINY, donor, "--shapes", "--alpha", "half"), 'cannot read --alpha "half"'),
        ((SHAPES_TINY, donor, "--shapes", "--alpha", "99"), "from -10 to 10"),
        ((SHAPES_TINY, SHAPES_TINY, "--shapes"), "given twice"),
    ):
        assert told in refuse("patch", *arguments, "-o", tmp_path / "out")


def test_a_recipe_s_line_puts_a_donor_in(
    run: Run, refuse: Run, donor: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "patch.yaml"
    recipe.write_text(
        "model: {checkpoint: builtin:shapes_tiny}\n"
        "data: {kind: shapes, limit: 3}\n"
        "ablations:\n"
        "  - {kind: patch, donor: donor.safetensors, depth: 1, alpha: [0.5]}\n"
        "  - {kind: heads-chosen, pattern: decoder.layers.0.self_attn, heads: [1]}\n"
        "evaluation: {resamples: 50}\n",
        encoding="utf-8",
    )
    plan = run("sweep", recipe, "--dry-run")
    assert "9 variants on 3 images" in plan
    printed = run("sweep", recipe, "-o", tmp_path / "sweep")
    assert "9 variants on 3 images" in printed
    line = ("--shapes", "--limit", 3, "--resamples", 50, "--depth", 1, "--alpha", "0.5")
    run("patch", SHAPES_TINY, donor, *line, "-o", tmp_path / "patch")
    swept, patched = (
        {one.name: one for one in Ledger.existing(tmp_path / name).results()}
        for name in ("sweep", "patch")
    )
    assert len(swept.keys() - patched.keys()) == 1
    for name, one in patched.items():
        assert np.array_equal(one.detections.boxes, swept[name].detections.boxes), name
    page = (tmp_path / "patch/report/report.html").read_text(encoding="utf-8")
    assert "\nNone\n" not in page  # there is no map of a model, as a study has
    assert "One by one its modules sum to" in page
    # The run of the command can be repeated from the recipe that it keeps.
    again = run("sweep", tmp_path / "patch/recipe.yaml", "-o", tmp_path / "again")
    assert "8 variants on 3 images" in again
    assert "one process" in refuse("sweep", recipe, "--device", "cpu,cpu", "-o", tmp_path / "two")
    assert "recipe of its own" in refuse(
        "sweep", recipe, "--dry-run", "--set",
        f"ablations=[{{kind: patch, donor: {donor}}}, {{kind: patch, donor: {SHAPES_TINY}}}]",
    )  # fmt: skip
    without = "ablations=[{kind: patch, donor: none.pth}]"
    assert "none.pth" in refuse("sweep", recipe, "--dry-run", "--set", without)
    lines = f"{{kind: patch, donor: {donor}, depth: 1}}, {{kind: modules, pattern: [neck]}}"
    assert 'both named "neck"' in refuse(
        "sweep", recipe, "--dry-run", "--set", f"ablations=[{lines}]"
    )
    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "photographs" / "one.png")
    images = f"data={{kind: images, images: {tmp_path / 'photographs'}}}"
    assert "patch needs labels" in refuse("sweep", recipe, "--dry-run", "--set", images)
