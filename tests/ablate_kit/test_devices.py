"""What is said of the CPU holds on a GPU: the same tests on both."""

import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.edits import Edit, Noise, Random
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.layers import Layers
from ablate_kit.ablations.kinds.zeros import component
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.gradients.diagnose import diagnose
from ablate_kit.gradients.monitor import GradientMonitor
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.inference.detect import inference
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.execution.disagreement import disagreement
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.open_sweep import open_sweep
from ablate_kit.sweeps.recipes.donor_variants import patches
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run import sweep
from ablate_kit.sweeps.run_sweep import run
from ablate_kit.sweeps.variants.taken_tensors import TakenTensor
from ablate_kit.sweeps.variants.variant import Variant
from detector.config import preset
from detector.data.augmentation.letterbox import GRAY
from detector.data.shapes import Shapes
from detector.data.training_set import EpochSampler, TrainingSet, loader
from detector.network.model import HybridDetector
from detector.training.criterion import criterion
from detector.training.devices import current_device, to_device
from detector.training.loss_settings import LossSettings
from tests.ablate_kit.run_files import contents
from tests.attacks.stopped import stopped
from tests.virtual_gpu import virtual_gpu

REAL = ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)]
PATHS = ["hybrid", "detr", "rt_detr_v2"]
# Many passes: on what only shows where tensors are, of one model.
MOSTLY_REAL = [
    *((path, "cpu") for path in PATHS),
    *(pytest.param(path, "cuda:0", marks=pytest.mark.gpu) for path in PATHS),
    ("detr", "virtual"),
]
RULES = [
    {"kind": "heads", "pattern": "decoder.layers.0.self_attn"},
    {"kind": "heads-mean", "pattern": "decoder.layers.1.self_attn", "heads": [0], "images": 3},
    {"kind": "channels", "pattern": ["decoder.layers.0.ffn.fc1"], "channels": [3], "to": "mean"},
]


@pytest.fixture(params=[*REAL, "virtual", "virtual mps"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    kind, _, other = request.param.partition(" ")
    if kind == "virtual":
        with virtual_gpu(other or "cuda"):
            yield f"{other or 'cuda'}:0"
    else:
        yield there(request.param)


def there(name: str) -> str:
    if name != "cpu" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return name


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, folders: Callable[[str], Path], hybrid: Path) -> Path:
    return hybrid if request.param == "hybrid" else folders(request.param)


def opened(path: Path, device: str) -> tuple[Adapter, list[Variant]]:
    """A model with cuts early and late in it, drawn and noisy ones included."""
    with open_checkpoint(path) as checkpoint:
        adapter = open_adapter(checkpoint, device=device)
        tensors = checkpoint.tensors
        found = attentions(checkpoint.tensors, checkpoint.config)
        own = [one for one in found if "decoder" in one.prefix and "self_attn" in one.prefix]
        base = own[0].prefix.rpartition(".layers.")[0] + ".layers"
        of_layers = Layers(base=base, part="self_attn").make(KindContext(checkpoint))
    weight = next(n for n in tensors if n.startswith(f"{base}.1.") and n.endswith("fc1.weight"))
    weights = [n for n in tensors if "backbone" in n and n.endswith("weight")]
    early = [n for n in weights if len(tensors[n].shape) == 4]
    cuts = [
        *heads_each(own[-1:])[:2],
        *of_layers,
        Ablation("drawn", "units", (Edit(weight, Random(50, 0, 0)),)),
        Ablation("noisy", "noise", (Edit(weight, factor=1.0, noise=Noise(0.3, 0, 0)),)),
        component([early[-1]], "backbone"),
    ]
    return adapter, [Variant.of(one) for one in cuts]


def detections(
    adapter: Adapter, variants: Sequence[Variant], **options: Any
) -> tuple[list[ImageDetections], list[str]]:
    """Of two batches of two images."""
    shapes = Shapes(4, seed=3, size=96)
    images = [adapter.prepare(shapes.image(i)) for i in range(4)]
    with VariantExecutor(adapter, **options) as passes:
        rows = [passes.run(images[i : i + 2], variants) for i in (0, 2)]
    return [one for batch in rows for row in batch for one in row], passes.notes


def equal(one: ImageDetections, other: ImageDetections) -> bool:
    names = ("boxes", "scores", "labels", "queries")
    return all(np.array_equal(getattr(one, k), getattr(other, k)) for k in names)


def test_replay_is_the_full_run_to_the_bit(path: Path, device: str) -> None:
    adapter, variants = opened(path, device)
    replayed, notes = detections(adapter, variants)
    full, _ = detections(adapter, variants, replay=False)
    again, _ = detections(adapter, variants, replay=False)
    assert notes == []
    assert all(map(equal, full, again)), "the model does not repeat itself"
    assert all(map(equal, replayed, full))
    changed = [not equal(full[0], full[2 * i + 2]) for i in range(len(variants))]
    assert all(changed)


@pytest.mark.parametrize(("path", "device"), MOSTLY_REAL, indirect=True)
def test_heads_side_by_side_agree_with_replay(path: Path, device: str) -> None:
    adapter, _ = opened(path, device)
    with open_checkpoint(path) as checkpoint:
        found = attentions(checkpoint.tensors, checkpoint.config)
    own = [one for one in found if "decoder" in one.prefix and "self_attn" in one.prefix]
    variants = [Variant.of(cut) for cut in heads_each(own)]
    fused, notes = detections(adapter, variants, fuse=True)
    alone, _ = detections(adapter, variants)
    assert len(notes) == 1
    assert "ran side by side" in notes[0]
    assert disagreement(fused, alone) < 1e-4


@pytest.mark.parametrize(("path", "device"), MOSTLY_REAL, indirect=True)
def test_recordings_serve_a_later_sweep_to_the_bit(path: Path, tmp_path: Path, device: str) -> None:
    adapter, variants = opened(path, device)
    found = [
        detections(adapter, variants, cache=RecordingCache(tmp_path) if kept else None)
        for kept in (True, True, False)
    ]
    assert [notes for _, notes in found] == [[], [], []]
    assert len(RecordingCache(tmp_path).entries()) == 2
    assert all(map(equal, found[0][0], found[2][0]))
    assert all(map(equal, found[1][0], found[2][0]))


def test_a_model_gives_on_a_device_what_it_gives_on_the_cpu(path: Path, device: str) -> None:
    if path.name == "rt_detr_v2":
        pytest.skip("its last queries tie exactly: of equal scores, top-k takes which it likes")
    one, _ = opened(path, device)
    here, _ = opened(path, "cpu")
    shapes = Shapes(2, seed=3, size=96)
    inputs = [here.prepare(shapes.image(i)) for i in range(2)]
    batch = {name: torch.cat([p.inputs[name] for p in inputs]) for name in inputs[0].inputs}
    found = []
    for adapter in (one, here):
        with inference(adapter.module):
            outputs = adapter.forward(batch)
        boxes, logits = ("boxes", "logits") if path.is_file() else ("pred_boxes", "logits")
        found.append((outputs[boxes].cpu(), outputs[logits].cpu()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_data_set_evaluates_on_a_device_as_on_the_cpu(repository: Path, device: str) -> None:
    numbers = []
    for where in (device, "cpu"):
        model = repository / "detector/zoo/shapes_tiny/model.safetensors"
        adapter, variants = opened(model, where)
        done = sweep(adapter, Shapes(12, seed=3), variants[:2])
        assert done.notes == []
        numbers.append([one.evaluation.overall for one in done.results])
    for one, other in zip(*numbers, strict=True):
        assert one["AP"] == pytest.approx(other["AP"], abs=0.01)
        assert one["AP50"] == pytest.approx(other["AP50"], abs=0.02)
    assert numbers[0][0]["AP"] > 0.5


def recipe_of(hybrid: Path) -> dict[str, Any]:
    return {
        "model": {"checkpoint": str(hybrid)},
        "data": {"kind": "shapes", "limit": 5},
        "ablations": RULES,
        "evaluation": {"batch_size": 2, "resamples": 20},
    }


@pytest.mark.parametrize("device", REAL)  # of several processes
def test_processes_and_interruptions_change_no_byte_on_a_device(
    hybrid: Path, tmp_path: Path, device: str
) -> None:
    there(device)
    values = recipe_of(hybrid)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    add = "ablate_kit.sweeps.run_folder.stored_detections:UnfinishedBatches.add"
    killed = stopped("SIGKILL", 2, add, "sweep", file, "-o", tmp_path / "cut", "--device", device)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    recipe = SweepRecipe.model_validate(values)
    run(recipe, tmp_path / "cut", Placement((device,)))
    run(recipe, tmp_path / "whole", Placement((device,)))
    run(recipe, tmp_path / "two", Placement((device, device)))
    but = ("notes.json", ".lock", "recipe.yaml")  # what did not go as planned, and how it was begun
    cut, whole, two = (contents(tmp_path / name, but=but) for name in ("cut", "whole", "two"))
    assert cut == whole == two


def test_decoding_waits_for_the_device_once(path: Path, device: str) -> None:
    adapter, _ = opened(path, device)
    image = adapter.prepare(Shapes(1, seed=3, size=96).image(0))
    batch = {name: torch.cat([tensor] * 3) for name, tensor in image.inputs.items()}
    with inference(adapter.module), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        outputs = adapter.forward(batch)
        said.clear()
        if device != "cpu":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            adapter.decode(outputs, [image.origin] * 3)
        finally:
            if device != "cpu":
                torch.cuda.set_sync_debug_mode("default")
    # Not the notice that this mode is a prototype, which comes once in a process.
    waited = [str(one.message) for one in said if "called a synchronizing" in str(one.message)]
    assert len(waited) == (device != "cpu"), waited


def test_means_are_those_of_the_device_that_variants_run_on(hybrid: Path, device: str) -> None:
    recipe = SweepRecipe.model_validate(recipe_of(hybrid))
    digests = []
    for devices in ((device,), (device, device)):
        with open_sweep(recipe, Placement(devices)) as opened_sweep:
            digests.append([one.digest for one in opened_sweep.ablations])
    assert digests[0] == digests[1]


def test_what_is_between_a_model_and_a_donor(hybrid: Path, device: str) -> None:
    with open_checkpoint(hybrid) as checkpoint:
        tensors = dict(open_adapter(checkpoint, device=device).module.state_dict())
    donor = {
        name: TakenTensor(tensor * 1.5)
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
    (half,) = [
        one for one in patches(tensors, donor, {"all": list(donor)}, [0.5]) if "0.5" in one.name
    ]
    for name, found in (half.tensors or {}).items():
        assert str(found.value.device) == device
        assert torch.allclose(found.value.cpu(), 1.25 * tensors[name].cpu(), rtol=1e-6), name


def test_the_monitor_measures_on_a_device(device: str) -> None:
    """Against the same numbers, taken one by one."""
    config = preset("tiny").replace(
        num_classes=8, image_size=96, widths=[16, 32, 32, 32], d_model=32, queries=12
    )
    place = torch.device(device)
    model = HybridDetector(config, seed=1).to(place).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = TrainingSet(Shapes(2, seed=1, size=96), 96, GRAY, seed=0)
    images, targets = next(iter(loader(data, EpochSampler(2), batch_size=2)))
    images, targets = to_device(images, place), to_device(targets, place)
    named = dict(model.named_parameters())
    norms: dict[str, list[float]] = {name: [] for name in named}
    begun = {name: p.detach().cpu().double().clone() for name, p in named.items()}
    with current_device(place), GradientMonitor(model, optimizer, interval=3) as monitor:
        for step in range(7):
            optimizer.zero_grad()
            out = model(images, targets, torch.Generator().manual_seed(step))
            criterion(out, targets, LossSettings())["loss"].backward()
            for name, p in named.items():
                norms[name].append(0.0 if p.grad is None else p.grad.cpu().double().norm().item())
            optimizer.step()
    tensors = {one.name: one for one in diagnose(monitor.measured()).tensors}
    assert tensors.keys() <= named.keys()
    assert len(tensors) > 100
    for name, one in tensors.items():
        assert one.grad_norm_max == pytest.approx(max(norms[name]), rel=1e-4, abs=1e-7), name
        change = (named[name].detach().cpu().double() - begun[name]).abs().max().item()
        assert one.change_max == pytest.approx(change, rel=1e-3, abs=1e-7), name
