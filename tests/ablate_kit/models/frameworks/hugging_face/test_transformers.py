"""Hugging Face detectors: names on disk and in memory, head removal, detection, refusals."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import Attention, attentions
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.ablations.kinds.heads import heads_chosen
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.means import Channels, HeadsMean
from ablate_kit.ablations.kinds.zeros import component
from ablate_kit.ablations.variant_files import write_variants
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import TransformersAdapter
from ablate_kit.models.inference.detect import detect, detect_all
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.recipes.reference_images import ReferenceImages
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.shapes import Shapes
from tests.ablate_kit.small_sweeps import adapter_of

pytest.importorskip("transformers")

KINDS = ["detr", "deformable_detr", "rt_detr_v2", "d_fine"]
Folders = Callable[[str], Path]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def adapter(kind: str, folders: Folders) -> TransformersAdapter:
    adapter = adapter_of(folders(kind))
    assert isinstance(adapter, TransformersAdapter)
    return adapter


def image(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_tensor_of_the_file_has_its_place_in_the_model(
    kind: str, adapter: TransformersAdapter, folders: Folders
) -> None:
    live = adapter.module.state_dict()
    names = adapter.live_names()
    with open_checkpoint(folders(kind)) as checkpoint:
        floating = {name for name, info in checkpoint.tensors.items() if info.is_floating}
        assert set(names) == floating
        for name, places in names.items():
            assert places, name
            for place in places:
                assert torch.equal(live[place], checkpoint.read(name)), (name, place)
    reached = {place for places in names.values() for place in places}
    assert reached == {name for name, tensor in live.items() if tensor.is_floating_point()}
    # The point of it: names differ on disk and in memory.
    assert any(places != (name,) for name, places in names.items())


def test_no_torchvision_is_needed(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it some releases put in place of ``transformers.AutoImageProcessor`` what raises."""
    import transformers

    monkeypatch.setattr(transformers, "AutoImageProcessor", None)
    assert adapter_of(folders("detr")).prepare(image(1)).inputs["pixel_values"].shape[1] == 3


def test_every_detection_names_its_query(kind: str, adapter: TransformersAdapter) -> None:
    """Its box is that of the model's own output for this query, in pixels."""
    prepared = adapter.prepare(image(3, 48, 64))
    with torch.no_grad():
        outputs = adapter.forward(prepared.inputs)
    (found,) = adapter.decode(outputs, [prepared.origin])
    assert found.queries is not None
    x, y, w, h = outputs.pred_boxes[0].double().numpy()[found.queries].T
    expected = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1) * [64, 48, 64, 48]
    np.testing.assert_allclose(found.boxes, expected, atol=1e-3)
    assert len(set(found.queries.tolist())) > 1


def test_as_many_detections_as_are_asked_for(folders: Folders) -> None:
    """The library's processor of Deformable DETR gives the best 100 unless it is told another
    number."""
    from transformers import DeformableDetrImageProcessorPil

    adapter = adapter_of(folders("deformable_detr"))
    adapter.processor = DeformableDetrImageProcessorPil()
    prepared = adapter.prepare(image(3, 48, 64))
    with torch.no_grad():
        outputs = adapter.forward(prepared.inputs)
    expected = outputs.logits.sigmoid().flatten().sort(descending=True).values.double().numpy()
    for limit, count in ((20, 100), (100, 100), (250, 250)):
        (found,) = adapter.decode(outputs, [prepared.origin], limit)
        np.testing.assert_array_equal(found.scores, expected[:count])


@pytest.mark.parametrize("what", ["heads", "backbone", "shared head"])
def test_a_variant_on_file_is_the_variant_in_memory(
    kind: str, what: str, adapter: TransformersAdapter, folders: Folders, tmp_path: Path
) -> None:
    """The whole state of the model, loaded from the variant's folder and edited in place."""
    with open_checkpoint(folders(kind)) as checkpoint:
        if what == "heads":
            found = attentions(checkpoint.tensors, checkpoint.config)
            one = heads_chosen(found, [1, 3], "x")
        elif what == "backbone":
            one = component([n for n in checkpoint.tensors if "embedder" in n][:3], "x")
            one = Ablation("x", "component", tuple(e for e in one.edits if "num_b" not in e.tensor))
        else:
            shared = [name for name, live in adapter.live_names().items() if len(live) > 1]
            if not shared:
                pytest.skip("this model shares no tensor")
            one = component(shared, "x")
        write_variants(checkpoint, {tmp_path / "variant": one})
    from_file = adapter_of(tmp_path / "variant").module.state_dict()
    with applied(adapter.module, one, adapter.live_names()):
        in_memory = adapter.module.state_dict()
        changed = 0
        for name, tensor in from_file.items():
            assert torch.equal(tensor, in_memory[name]), name
            changed += int((tensor == 0).sum()) if tensor.is_floating_point() else 0
    assert changed > 0


@pytest.fixture(scope="module")
def bf16(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of more tensors than bfloat16 has integers in a row, saved in it."""
    import safetensors.torch

    folder = tmp_path_factory.mktemp("bf16") / "model"
    shutil.copytree(folders("rt_detr_v2"), folder)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    half = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    safetensors.torch.save_file(half, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    return folder


def test_every_tensor_in_half_precision_has_its_place(bf16: Path) -> None:
    adapter = adapter_of(bf16)
    live, names = adapter.module.state_dict(), adapter.live_names()
    with open_checkpoint(bf16) as checkpoint:
        floating = {name for name, info in checkpoint.tensors.items() if info.is_floating}
        assert len(floating) > 256
        assert set(names) == floating
        for name, places in names.items():
            assert places, name
            assert all(torch.equal(live[one], checkpoint.read(name).float()) for one in places)


def test_a_copy_in_half_precision_is_the_variant_of_the_sweep(bf16: Path, tmp_path: Path) -> None:
    adapter = adapter_of(bf16)
    dataset = Shapes(2, seed=1)
    with open_checkpoint(bf16) as checkpoint:
        source = KindContext(checkpoint, lambda: ReferenceImages(adapter, dataset))
        pattern = "model.decoder.layers.0.self_attn"
        (heads, *_) = HeadsMean(pattern=pattern, images=2).make(source)
        (channels,) = Channels(
            pattern=["model.decoder.layers.0.fc1"], together=True, to="mean", images=2
        ).make(source)
        places = {tmp_path / "heads": heads, tmp_path / "channels": channels}
        write_variants(checkpoint, places)
    for place, one in places.items():
        with applied(adapter.module, one, adapter.live_names()):
            in_memory = {n: tensor.clone() for n, tensor in adapter.module.state_dict().items()}
        from_file = adapter_of(place).module.state_dict()
        assert all(torch.equal(tensor, from_file[name]) for name, tensor in in_memory.items())
        assert not all(
            torch.equal(tensor, from_file[name])
            for name, tensor in adapter.module.state_dict().items()
        )


def outputs_zeroed(module: nn.Module, place: str, head: int, heads: int) -> RemovableHandle:
    """The reference: one head's share of what enters an output projection set to zero."""
    projection = module.get_submodule(place)
    width = projection.in_features // heads
    keep = torch.ones(projection.in_features)
    keep[head * width : (head + 1) * width] = 0
    return projection.register_forward_pre_hook(lambda _, args: (args[0] * keep, *args[1:]))


def logits(adapter: TransformersAdapter) -> Tensor:
    pixels = torch.linspace(-1, 1, 3 * 128 * 128).reshape(1, 3, 128, 128)
    with torch.no_grad():
        out = adapter.module(pixel_values=pixels)
    return torch.cat((out.logits.flatten(), out.pred_boxes.flatten()))


def with_projection(adapter: TransformersAdapter, folder: Path) -> Iterator[tuple[Attention, str]]:
    """Attentions that have an output projection, and its name in memory."""
    with open_checkpoint(folder) as checkpoint:
        for attention in attentions(checkpoint.tensors, checkpoint.config):
            for name in attention.layout.output:
                if name in attention.tensors:
                    (live,) = adapter.live_names()[attention.name_of(name)]
                    yield attention, live.removesuffix(".weight")


def test_removing_a_head_is_zeroing_its_output(
    kind: str, adapter: TransformersAdapter, folders: Folders
) -> None:
    """Everywhere in the model where an output projection shows the heads' outputs."""
    full = logits(adapter)
    tested = 0
    for attention, place in with_projection(adapter, folders(kind)):
        heads = attention.head_count()
        for head in (0, heads - 1):
            with outputs_zeroed(adapter.module, place, head, heads):
                expected = logits(adapter)
            with applied(
                adapter.module, heads_chosen([attention], [head], "x"), adapter.live_names()
            ):
                assert (logits(adapter) - expected).abs().max() < 1e-6, (place, head)
            assert not torch.equal(full, expected), (place, head)
            tested += 1
    assert torch.equal(logits(adapter), full)
    assert tested >= 6


def test_d_fine_heads_without_projection_leave_the_map(folders: Folders) -> None:
    adapter = adapter_of(folders("d_fine"))
    seen: list[Tensor] = []
    module = adapter.module.get_submodule("model.decoder.layers.1.encoder_attn")
    module.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    with open_checkpoint(folders("d_fine")) as checkpoint:
        found = {a.prefix: a for a in attentions(checkpoint.tensors, checkpoint.config)}
    attention = found["model.decoder.layers.1.encoder_attn"]
    assert attention.samples_without_projection
    logits(adapter)
    with applied(adapter.module, heads_chosen([attention], [2], "x"), adapter.live_names()):
        logits(adapter)
    full, cut = seen
    width = full.shape[-1] // attention.head_count()
    expected = full.clone()
    expected[..., 2 * width : 3 * width] = 0
    assert torch.equal(cut, expected)
    assert full[..., 2 * width : 3 * width].abs().max() > 1e-3


def test_detections_do_not_depend_on_the_batch(adapter: TransformersAdapter) -> None:
    images = [image(0), image(1, 80, 50), image(2)]
    together = detect(adapter, images)
    for one, found in zip(images, together, strict=True):
        (alone,) = detect(adapter, [one])
        assert np.abs(found.scores - alone.scores).max() < 1e-5
        assert np.abs(found.boxes - alone.boxes).max() < 1e-3
        assert (np.diff(found.scores) <= 0).all()
        assert found.labels.max() < len(adapter.classes)


def test_classes_are_those_of_the_config(adapter: TransformersAdapter) -> None:
    assert adapter.classes == ("disc", "square", "star")


def test_an_image_processor_that_finds_classes_without_names_is_refused(
    folders: Folders, tmp_path: Path
) -> None:
    """A detector with a class for no object, read by a processor that knows no such class."""
    folder = shutil.copytree(folders("yolos"), tmp_path / "yolos")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["image_processor_type"] = "RTDetrImageProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    adapter = adapter_of(folder)
    classes = len(adapter.classes)
    with torch.no_grad():
        adapter.module.get_parameter("class_labels_classifier.layers.2.bias")[classes] += 9
    told = f"the model finds class {classes}, and has names of {classes}, counted from 0"
    with pytest.raises(UserError, match=told):
        detect_all(adapter, Shapes(1))


def test_a_bare_file_runs_with_the_folder_of_its_config(folders: Folders, tmp_path: Path) -> None:
    folder = folders("detr")
    shutil.copy(folder / "model.safetensors", tmp_path / "weights.safetensors")
    with open_checkpoint(tmp_path / "weights.safetensors") as checkpoint:
        with pytest.raises(UserError, match="give --model transformers:FOLDER"):
            open_adapter(checkpoint)
        adapter = open_adapter(checkpoint, f"transformers:{folder}")
    assert torch.equal(logits(adapter), logits(adapter_of(folder)))


def test_a_folder_with_code_of_its_own_is_refused_until_trusted(
    folders: Folders, tmp_path: Path
) -> None:
    shutil.copytree(folders("detr"), tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["auto_map"] = {"AutoModelForObjectDetection": "modeling_mine.Mine"}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    (tmp_path / "model/modeling_mine.py").write_text("raise SystemExit('it ran')")
    with open_checkpoint(tmp_path / "model") as checkpoint:
        with pytest.raises(UserError, match=r"runs its own code \(modeling_mine\.py\).*--trust-re"):
            open_adapter(checkpoint)
        # Cutting needs no trust, and copies the code without running it.
        write_variants(
            checkpoint,
            {tmp_path / "cut": Ablation("x", "component", (Edit(next(iter(checkpoint.tensors))),))},
        )
    assert (tmp_path / "cut/modeling_mine.py").is_file()


def test_what_the_model_splits_is_cut_there_as_a_whole(folders: Folders) -> None:
    """As RF-DETR's packed projections, which a cut of the whole decoder is without, too."""
    adapter = adapter_of(folders("rf_detr"))
    packed = [f"transformer.decoder.layers.0.self_attn.in_proj_{one}" for one in ("weight", "bias")]
    before = logits(adapter)

    def silent(module: nn.Module, args: object, output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    with ExitStack() as stack:
        for one in "qkv":
            projection = adapter.module.model.decoder.layers[0].self_attn.get_submodule(
                f"{one}_proj"
            )
            stack.enter_context(projection.register_forward_hook(silent))
        expected = logits(adapter)
    cut = component(packed, "x")
    with applied(adapter.module, cut, adapter.live_names()):
        assert torch.equal(logits(adapter), expected)
    assert torch.equal(logits(adapter), before)
    assert not torch.equal(expected, before)

    found = []
    for replay in (True, False):
        with VariantExecutor(adapter, replay=replay) as passes:
            prepared = [adapter.prepare(image(0, 128, 128))]
            found.append(passes.run(prepared, [Variant.of(cut)])[1][0])
            assert passes.full is not replay
    np.testing.assert_array_equal(found[0].scores, found[1].scores)

    rows = Ablation("x", "x", (Edit(packed[0], Blocks(0, ((0, 8),))),))
    told = rf"the running model holds {packed[0]} as .*q_proj.*, where only the whole of it can be"
    with pytest.raises(UserError, match=told), applied(adapter.module, rows, adapter.live_names()):
        pass


MINE = """
import torch
from transformers import DetrForObjectDetection


class Signs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("signs", torch.arange(4.0) - 1.5, persistent=False)


class Mine(DetrForObjectDetection):
    def __init__(self, config):
        super().__init__(config)
        self.mine = Signs()
"""


def test_what_files_do_not_hold_is_as_the_model_makes_it(folders: Folders, tmp_path: Path) -> None:
    """Where transformers loads a model without memory, and its modules do not fill it later."""
    shutil.copytree(folders("detr"), tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["auto_map"] = {"AutoModelForObjectDetection": "modeling_mine.Mine"}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    (tmp_path / "model/modeling_mine.py").write_text(MINE)
    drawn = torch.random.get_rng_state()
    module = adapter_of(tmp_path / "model", trust_remote_code=True).module
    assert module.mine.signs.tolist() == [-1.5, -0.5, 0.5, 1.5]
    assert torch.equal(torch.random.get_rng_state(), drawn)


@pytest.mark.parametrize("damage", ["missing", "shape", "foreign"])
def test_weights_that_do_not_fit_are_refused(folders: Folders, tmp_path: Path, damage: str) -> None:
    import safetensors.torch

    folder = folders("detr")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    name = "class_labels_classifier.bias"
    if damage == "missing":
        del tensors[name]
    elif damage == "shape":
        tensors[name] = torch.zeros(9)
    else:
        tensors["zzz.weight"] = torch.zeros(1)
    shutil.copytree(folder, tmp_path / "model")
    safetensors.torch.save_file(tensors, tmp_path / "model/model.safetensors", {"format": "pt"})
    expected = {
        "missing": f'"{name}" of the model is missing in the file',
        "shape": rf'"{name}" has shape \(9,\), the model expects \(4,\)',
        "foreign": '"zzz.weight" has no place in the model',
    }[damage]
    with (
        open_checkpoint(tmp_path / "model") as checkpoint,
        pytest.raises(UserError, match=expected),
    ):
        open_adapter(checkpoint)


def test_a_loader_that_leaves_weights_as_drawn_is_refused(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 5.0 of the library ties the heads of RT-DETR's layers to one that no file has, and
    reports nothing missing."""
    from transformers import DetrForObjectDetection

    load = DetrForObjectDetection.from_pretrained

    def forgetful(*args: object, **options: object) -> object:
        loaded = load(*args, **options)
        module = loaded[0] if isinstance(loaded, tuple) else loaded
        nn.init.constant_(module.bbox_predictor.layers[1].weight, 0.25)
        return loaded

    monkeypatch.setattr(DetrForObjectDetection, "from_pretrained", forgetful)
    message = r"leaves tensors of the model random, bbox_predictor\.layers\.1\.weight"
    with open_checkpoint(folders("detr")) as checkpoint, pytest.raises(UserError, match=message):
        open_adapter(checkpoint)


def test_a_parameter_that_the_file_holds_in_whole_numbers_did_arrive(
    folders: Folders, tmp_path: Path
) -> None:
    import safetensors.torch

    folder = shutil.copytree(folders("detr"), tmp_path / "model")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    name = "class_labels_classifier.bias"
    tensors[name] = torch.zeros(tensors[name].shape, dtype=torch.int64)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert not adapter_of(folder).module.state_dict()[name].any()
