"""Detectors that find what a text names, against transformers' own code and a naive reading."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hugging_face.open_vocabulary import OpenVocabularyAdapter
from ablate_kit.models.frameworks.hugging_face.transformers import FRAMEWORK
from ablate_kit.models.inference.detect import detect
from ablate_kit.models.labels.classes import NO_CLASS
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.studies.cuts import Cutter, made
from ablate_kit.studies.structure import structure
from ablate_kit.sweeps.recipes.sweep_recipe import parse_kind
from detector.data.shapes import Shapes
from tests.ablate_kit.conftest import Run
from tests.ablate_kit.small_sweeps import adapter_of

pytest.importorskip("transformers")

IMAGES = [Shapes(2, seed=1, size=96).image(i) for i in range(2)]
NAMES = ("disc", "Red squares.", "star")  # in capitals, of several tokens, with the end of a phrase


@pytest.fixture(scope="module")
def asked(
    benchmark: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A folder of a small model with random weights, by its type."""

    from transformers.utils import logging

    logging.disable_progress_bar()  # it would be on standard error, which a test reads

    @cache
    def folder(name: str) -> Path:
        made = tmp_path_factory.mktemp("asked") / name
        benchmark("small_detectors").build(name, made)
        return made

    return folder


def opened(folder: Path, tmp_path: Path, text: str = "\n".join(NAMES)) -> OpenVocabularyAdapter:
    path = tmp_path / "names"
    path.write_text(text)
    adapter = adapter_of(folder, class_names=path)
    assert isinstance(adapter, OpenVocabularyAdapter)
    return adapter


def raw(adapter: OpenVocabularyAdapter, inputs: dict[str, Any]) -> Any:
    """What transformers' model gives for an image and a text."""
    image = adapter.processor(images=[IMAGES[0]], return_tensors="pt")
    with torch.no_grad():
        return adapter.module(**image, **inputs)


@pytest.mark.parametrize("name", ["grounding-dino", "mm-grounding-dino"])
def test_files_without_the_norm_that_no_backbone_takes_open(
    asked: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """As those that are published are: the library's own list says that it may be missing."""
    import safetensors.torch

    path = shutil.copytree(asked(name), tmp_path / name) / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    kept = {key: one for key, one in tensors.items() if "swin.layernorm" not in key}
    safetensors.torch.save_file(kept, path, {"format": "pt"})
    whole, without = opened(asked(name), tmp_path), opened(path.parent, tmp_path)
    for one, other in zip(detect(whole, IMAGES), detect(without, IMAGES), strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.boxes, other.boxes)


@pytest.mark.parametrize("name", ["grounding-dino", "mm-grounding-dino"])
def test_scores_are_means_over_the_tokens_of_a_class(
    asked: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    from transformers import AutoTokenizer

    adapter = opened(asked(name), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(asked(name))
    text = tokenizer("disc . red squares . star .", return_tensors="pt")
    outputs = raw(adapter, dict(text))
    (boxes,) = adapter.processor.post_process_object_detection(
        outputs, threshold=-1.0, target_sizes=[IMAGES[0].shape[:2]]
    )
    numbers = text["input_ids"][0].tolist()
    expected = []
    for label, words in enumerate((["disc"], ["red", "square", "##s"], ["star"])):
        places = [numbers.index(tokenizer.convert_tokens_to_ids(word)) for word in words]
        fits = outputs.logits[0].sigmoid()[:, places].mean(dim=1)
        expected += [(-float(fit), query, label) for query, fit in enumerate(fits)]
    expected.sort()
    (found,) = detect(adapter, IMAGES[:1])
    assert found.scores == pytest.approx([-one[0] for one in expected], abs=1e-6)
    assert found.queries is not None
    assert found.queries.tolist() == [one[1] for one in expected]
    assert found.labels.tolist() == [one[2] for one in expected]
    np.testing.assert_allclose(found.boxes, boxes["boxes"].numpy()[found.queries], atol=1e-3)


@pytest.mark.parametrize("name", ["owlvit", "owlv2"])
def test_a_text_for_each_class(asked: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    adapter = opened(asked(name), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(asked(name))
    texts = [f"a photo of a {one}" for one in ("disc", "red squares", "star")]
    text = tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt")
    outputs = raw(adapter, {key: text[key] for key in ("input_ids", "attention_mask")})
    (expected,) = adapter.processor.post_process_object_detection(
        outputs, threshold=0.0, target_sizes=[IMAGES[0].shape[:2]]
    )
    (found,) = detect(adapter, IMAGES[:1])
    order = np.argsort(-expected["scores"].numpy(), kind="stable")
    assert found.scores == pytest.approx(expected["scores"].numpy()[order], abs=1e-6)
    assert found.labels.tolist() == expected["labels"][order].tolist()
    np.testing.assert_allclose(found.boxes, expected["boxes"].numpy()[order], atol=1e-3)


def test_names_and_a_task_and_what_overlaps_goes(
    asked: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By OmDet-Turbo's own processor, whose suppression is torchvision's."""
    from transformers import AutoTokenizer

    # The package itself offers the module only where torchvision is.
    theirs: Any = import_module("transformers.models.omdet_turbo.processing_omdet_turbo")
    adapter = opened(asked("omdet-turbo"), tmp_path)
    with torch.no_grad():  # boxes so large that they overlap
        adapter.module.decoder.decoder_bbox_head[-1].layers[-1].bias[2:] += 2
    tokenizer = AutoTokenizer.from_pretrained(asked("omdet-turbo"))
    whole = {"padding": "max_length", "max_length": 32, "return_tensors": "pt"}
    names = tokenizer(["disc", "red squares", "star"], **whole)
    task = tokenizer(["Detect disc, red squares, star."], truncation=True, **whole)
    kinds = ("input_ids", "attention_mask")
    inputs = {
        f"{of}_{k}": one[k] for of, one in (("classes", names), ("tasks", task)) for k in kinds
    }
    outputs = raw(adapter, inputs | {"classes_structure": torch.tensor([3])})
    apart: list[bool] = []

    def naive(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, most: float) -> Any:
        kept: list[int] = []
        for i in scores.argsort(descending=True, stable=True).tolist():
            others = [k for k in kept if labels[k] == labels[i]]
            free = all(_overlap(boxes[i], boxes[k]) <= most for k in others)
            kept += [i] if free else []
            apart.append(free)
        return torch.tensor(kept)

    monkeypatch.setattr(theirs, "batched_nms", naive, raising=False)
    process = theirs.OmDetTurboProcessor.post_process_grounded_object_detection
    (expected,) = process(None, outputs, threshold=0.0, target_sizes=[IMAGES[0].shape[:2]])
    (found,) = detect(adapter, IMAGES[:1])
    assert 0 < sum(apart) < len(apart) == 10  # as many as queries, of which some go
    assert found.scores == pytest.approx(expected["scores"].numpy(), abs=1e-6)
    assert found.labels.tolist() == expected["labels"].tolist()
    np.testing.assert_allclose(found.boxes, expected["boxes"].numpy(), atol=1e-3)


def _overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    sides = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0)
    both = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - sides.prod()
    return float(sides.prod() / both)


def test_texts_are_read_again_by_other_weights(
    asked: Callable[[str], Path], tmp_path: Path
) -> None:
    """OmDet-Turbo remembers what it made of a text."""
    adapter = opened(asked("omdet-turbo"), tmp_path)
    before = detect(adapter, IMAGES[:1])[0].scores
    with torch.no_grad():
        adapter.module.language_backbone.text_projection.neg_()
    assert np.abs(detect(adapter, IMAGES[:1])[0].scores[:5] - before[:5]).max() > 1e-4


@pytest.mark.parametrize("name", ["grounding-dino", "owlvit", "omdet-turbo"])
def test_classes_by_number_leave_gaps_and_images_share_a_pass(
    asked: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    listed = opened(asked(name), tmp_path)
    categories = [{"id": number, "name": one} for number, one in zip((2, 5, 6), NAMES, strict=True)]
    numbered = opened(asked(name), tmp_path, json.dumps({"categories": categories}))
    gap = NO_CLASS
    assert numbered.classes == (gap, gap, NAMES[0], gap, gap, NAMES[1], NAMES[2])
    assert not listed.same_model(numbered)
    assert listed.same_model(opened(asked(name), tmp_path))
    together = detect(listed, IMAGES)
    for one, both, other in zip(
        [detect(listed, [image])[0] for image in IMAGES],
        together,
        detect(numbered, IMAGES),
        strict=True,
    ):
        assert one.scores == pytest.approx(both.scores, abs=1e-5)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        assert [(2, 5, 6)[label] for label in both.labels] == other.labels.tolist()


def test_what_cannot_be_asked_is_refused(asked: Callable[[str], Path], tmp_path: Path) -> None:
    folder = asked("grounding-dino")
    with open_checkpoint(folder) as checkpoint:
        with pytest.raises(UserError, match="say what with --class-names FILE"):
            open_adapter(checkpoint)
        adapter = opened(folder, tmp_path)
        for names, message in {
            "disc\n...": "has no letters to ask for",
            "\n".join(f"disc {'disc ' * i}" for i in range(12)): "are 92 tokens, and .* reads 32",
        }.items():
            with pytest.raises(UserError, match=message):
                opened(folder, tmp_path, names)
    assert FRAMEWORK.training is not None
    with pytest.raises(UserError, match="training is for detectors of classes of their own"):
        FRAMEWORK.training(adapter, Shapes(1), {}, "cpu")


def test_names_that_are_not_read_as_they_are_written_are_told(
    asked: Callable[[str], Path], tmp_path: Path, told: list[str]
) -> None:
    for name, text, messages in (
        ("grounding-dino", "red disc\nstar", []),
        ("grounding-dino", "disc\nzebra", ["does not know all of the class zebra"]),
        ("grounding-dino", "Disc\ndisc", ["reads the classes disc and disc alike"]),
        ("owlvit", "disc\nzebra", []),
        ("omdet-turbo", "disc\n" + "z" * 25, ["first 32 of 39 tokens of its task"]),
        ("owlvit", "disc\n猫\n犬", ["class 猫", "class 犬", "classes 猫 and 犬 alike"]),
    ):
        told.clear()
        opened(asked(name), tmp_path, text)
        assert len(told) == len(messages), told
        for one, message in zip(told, messages, strict=True):
            assert message in one
    with pytest.raises(UserError, match="reads nothing in the class"):  # a soft hyphen
        opened(asked("grounding-dino"), tmp_path, "disc\n\u00ad")
    with pytest.raises(UserError, match=r"the name of a class is 51 tokens, and .* reads 32"):
        opened(asked("owlvit"), tmp_path, f"disc\n{'a' * 40}")  # beside one that is short


def test_a_tokenizer_of_other_numbers_is_refused(
    benchmark: Callable[[str], ModuleType], asked: Callable[[str], Path], tmp_path: Path
) -> None:
    benchmark("small_detectors").tokenizer("owlvit").save_pretrained(tmp_path / "words")
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in (*asked("grounding-dino").iterdir(), *(tmp_path / "words").iterdir()):
        (changed / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="tokenizer is not BERT's"):
        opened(changed, tmp_path)
    for path in [*changed.glob("tokenizer*"), *changed.glob("vocab*")]:
        path.unlink()
    with pytest.raises(UserError, match="which says how texts are read"):
        opened(changed, tmp_path)


def test_a_text_enhancer_has_half_of_the_encoder_s_heads(asked: Callable[[str], Path]) -> None:
    from ablate_kit.ablations.attention import attentions

    with open_checkpoint(asked("grounding-dino")) as checkpoint:
        told = {
            one.prefix: one.heads for one in attentions(checkpoint.tensors, checkpoint.settings)
        }
    assert told["model.encoder.layers.0.text_enhancer_layer.self_attn"] == 2
    assert told["model.encoder.layers.0.deformable_layer.self_attn"] == 4
    assert told["model.text_backbone.encoder.layer.0.attention"] == 3


def test_commands_that_run_such_a_detector_take_its_classes(
    run: Run, refuse: Run, asked: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, names = asked("grounding-dino"), tmp_path / "names.txt"
    names.write_text("disc\nstar\n")
    data = ("--shapes", "--limit", 2)
    module = "model.decoder.layers.0.encoder_attn_text"
    mean = ("mean", folder, module, "--heads", 1, *data)
    assert "say what with --class-names FILE" in refuse(*mean, "-o", tmp_path / "cut")
    run(*mean, "--class-names", names, "-o", tmp_path / "cut")
    given = ("--class-names", names, *data)
    assert "star" in run("eval", folder, *(tmp_path / "cut").iterdir(), *given)
    assert "variants on 2 images" in run("sweep", folder, "--modules", "all", *given, "--dry-run")


FUSION = "model.encoder.layers.0.fusion_layer.attn"


@dataclass(frozen=True)
class Shown:
    """A model with the two images."""

    adapter: OpenVocabularyAdapter

    @property
    def module(self) -> nn.Module:
        return self.adapter.module

    def names_of(self, tensor: str) -> Sequence[str]:
        return self.adapter.live_names()[tensor]

    def run(self, _: int | None) -> None:
        detect(self.adapter, IMAGES)


def changed_heads(adapter: OpenVocabularyAdapter, change: Callable[[torch.Tensor], None]) -> Any:
    """What is found where ``change`` is made to the second half of what both projections get."""

    def hook(_: object, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        x = args[0].clone()
        change(x[..., x.shape[-1] // 2 :])
        return (x,)

    attention = adapter.module.get_submodule(FUSION)
    with (
        attention.out_vision_proj.register_forward_pre_hook(hook),
        attention.out_text_proj.register_forward_pre_hook(hook),
    ):
        return detect(adapter, IMAGES)


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ({"kind": "heads"}, lambda x: x.zero_()),
        ({"kind": "heads-mean"}, lambda x: x.copy_(x.mean((0, 1), keepdim=True))),
        ({"kind": "heads-resampled"}, lambda x: x.copy_(x.flip(0))),
    ],
)
def test_a_head_of_the_fusion_ends_in_the_image_and_in_the_text(
    asked: Callable[[str], Path],
    tmp_path: Path,
    line: dict[str, Any],
    change: Callable[[torch.Tensor], None],
) -> None:
    adapter = opened(asked("grounding-dino"), tmp_path)
    with open_checkpoint(asked("grounding-dino")) as checkpoint:
        context = KindContext(checkpoint, lambda: Shown(adapter))
        *_, ablation = parse_kind({**line, "pattern": FUSION}).make(context)
    with applied(adapter.module, ablation, adapter.live_names()):
        cut = detect(adapter, IMAGES)
    full, expected = detect(adapter, IMAGES), changed_heads(adapter, change)
    for one, other, before in zip(cut, expected, full, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
        assert np.abs(np.sort(one.scores) - np.sort(before.scores)).max() > 1e-5


def test_a_study_skips_the_fusion_and_cuts_its_heads(
    asked: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = opened(asked("grounding-dino"), tmp_path)
    with open_checkpoint(asked("grounding-dino")) as checkpoint:
        source = KindContext(checkpoint, live=lambda: adapter)
        parts = {one.name: one for one in structure(source, None).walk()}
        cutter = Cutter(source, adapter, {}, 8)
        fusion, attention = parts[FUSION.rpartition(".")[0]], parts[FUSION]
        assert [cutter.cut(one).how for one in (fusion, attention)] == ["removed", "removed"]
        assert [one.how for one in cutter.heads(attention)] == ["mean", "mean"]
        cuts = made([cutter.cut(fusion)], source)
    layer = adapter.module.get_submodule(fusion.name)
    seen: list[Any] = []
    with (
        layer.register_forward_hook(
            lambda _, __, given, out: seen.append((given, out)), with_kwargs=True
        ),
        applied(adapter.module, *cuts.values(), adapter.live_names()),
    ):
        detect(adapter, IMAGES[:1])
    ((given, ((image, _), (text, _))),) = seen
    assert torch.equal(image, layer.layer_norm_vision(given["vision_features"]))
    assert torch.equal(text, layer.layer_norm_text(given["text_features"]))
