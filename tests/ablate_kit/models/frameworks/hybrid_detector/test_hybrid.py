"""The hybrid detector's adapter: strict loading, notebook checkpoints, boxes in pixels."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.ablations.variant_files import write_variants
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.inference.detect import detect, detect_all
from ablate_kit.models.labels.classes import match_classes
from ablate_kit.models.labels.truth import ground_truth
from ablate_kit.models.opening.open import open_adapter
from detector.config import preset
from detector.data.dataset import limit
from detector.data.formats import voc_xml
from detector.data.shapes import Shapes
from detector.data.synthetic.layout import Figure
from detector.network import legacy
from detector.network.model import HybridDetector
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.small_sweeps import adapter_of
from tests.hybrid_file import save_hybrid


@pytest.fixture(scope="module")
def adapter(hybrid: Path) -> HybridAdapter:
    return adapter_of(hybrid)


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_file_says_what_the_model_is(adapter: HybridAdapter) -> None:
    assert adapter.classes == Shapes.classes
    assert adapter.module.config.d_model == 32
    assert not adapter.module.training


def test_a_model_that_was_saved_whole_has_its_configuration_with_it(
    adapter: HybridAdapter, tmp_path: Path
) -> None:
    torch.save({"model": adapter.module, "names": list(Shapes.classes)}, tmp_path / "a.pt")
    again = adapter_of(tmp_path / "a.pt")
    assert again.module.config == adapter.module.config
    assert again.classes == adapter.classes
    state = again.module.state_dict()
    for name, tensor in adapter.module.state_dict().items():
        assert torch.equal(state[name], tensor)


def test_boxes_are_pixels_of_the_original_image(adapter: HybridAdapter) -> None:
    (found,) = detect(adapter, [image(50, 120)])
    assert len(found.scores) == 12 * 8  # every pair of query and class, under the cap of 100
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0
    assert found.boxes[:, [0, 2]].max() <= 120
    assert found.boxes[:, [1, 3]].max() <= 50


def test_every_detection_names_its_query(adapter: HybridAdapter) -> None:
    """Its box is that of the network's own output for this query, in pixels."""
    prepared = adapter.prepare(image(96, 96))
    with torch.no_grad():
        outputs = adapter.forward(prepared.inputs)
    (found,) = adapter.decode(outputs, [prepared.origin])
    assert found.queries is not None
    x, y, w, h = outputs["boxes"][0].double().numpy()[found.queries].T
    expected = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
    np.testing.assert_allclose(found.boxes, 96 * expected.clip(0, 1), atol=1e-3)
    assert np.bincount(found.queries).tolist() == [8] * 12  # every class of every query


def test_results_do_not_depend_on_the_batch(adapter: HybridAdapter) -> None:
    images = [image(50, 120, 1), image(96, 96, 2), image(130, 60, 3)]
    for one, found in zip(images, detect(adapter, images), strict=True):
        (alone,) = detect(adapter, [one])
        assert np.abs(found.scores - alone.scores).max() < 1e-5
        assert np.abs(found.boxes - alone.boxes).max() < 1e-2


def test_the_pad_color_of_the_config_reaches_the_network(hybrid: Path, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(hybrid)
    model = HybridDetector(preset("tiny").replace(
        num_classes=8, image_size=96, widths=[16, 32, 32, 32], d_model=32, queries=12,
        pad_color="gray",
    ))  # fmt: skip
    model.load_state_dict(tensors)
    save_hybrid(tmp_path / "gray.safetensors", model, Shapes.classes)
    wide = image(40, 120)
    (mean,) = detect(adapter_of(hybrid), [wide])
    (gray,) = detect(adapter_of(tmp_path / "gray.safetensors"), [wide])
    assert not np.array_equal(mean.scores, gray.scores)


@pytest.mark.parametrize(
    "changes",
    [
        {"background_gate": False},
        {"pgi_in_evaluation": False},
        {"iou_head": True},
        {"iou_head": True, "iou_gamma": 3.0},
    ],
    ids=str,
)
def test_what_the_config_says_of_evaluation_makes_the_scores(changes: dict[str, object]) -> None:
    sizes = {"num_classes": 8, "image_size": 96, "widths": [16, 32, 32, 32], "d_model": 32}
    before = {"iou_head": True} if "iou_gamma" in changes else {}
    models = []
    for switches in (before, changes):
        model = HybridDetector(preset("tiny").replace(**sizes, **switches), seed=1)
        models.append(HybridAdapter(model, Shapes.classes, {}))
    (one,), (other,) = (detect(model, [image(96, 96)]) for model in models)
    assert not np.allclose(one.scores, other.scores, rtol=1e-3)


@pytest.mark.parametrize("fault", ["missing", "shape", "foreign", "config"])
def test_files_that_do_not_fit_are_refused(hybrid: Path, tmp_path: Path, fault: str) -> None:
    tensors = safetensors.torch.load_file(hybrid)
    with safetensors.safe_open(hybrid, "pt") as file:
        metadata = file.metadata()
    if fault == "missing":
        del tensors["level_embed"]
    elif fault == "shape":
        tensors["level_embed"] = torch.zeros(4, 5)
    elif fault == "foreign":
        tensors["zzz"] = torch.zeros(1)
    else:
        del metadata["config"]
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(tensors, path, metadata)
    expected = {
        "missing": '"level_embed" of the model is missing in the file',
        "shape": r'"level_embed" has shape \(4, 5\), the model expects \(4, 32\)',
        "foreign": '"zzz" has no place in the model',
        "config": "carries no config of the hybrid detector; expected its settings under",
    }[fault]
    with open_checkpoint(path) as checkpoint, pytest.raises(UserError, match=expected):
        open_adapter(checkpoint)


def test_weights_that_are_not_finite_are_told_once(tmp_path: Path, told: list[str]) -> None:
    with open_checkpoint(SHAPES_TINY) as checkpoint:
        weights, metadata = checkpoint.state_dict(), dict(checkpoint.archive.metadata)
    weights["level_embed"].view(-1)[:2] = torch.tensor([torch.nan, torch.inf])
    weights["queries.content"].view(-1)[0] = torch.nan
    path = tmp_path / "diverged.safetensors"
    safetensors.torch.save_file(weights, path, metadata)
    with open_checkpoint(path) as checkpoint, open_checkpoint(SHAPES_TINY) as sound:
        for one in (checkpoint, checkpoint, sound):
            open_adapter(one)
    assert told == [
        f"{path}: 2 elements of level_embed, and some of 1 more tensor, are NaN or infinite: what "
        "this model finds means nothing"
    ]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with open_checkpoint(tmp_path / "x.safetensors") as checkpoint:
        with pytest.raises(UserError, match=r"no framework that is recognized; .*python:FILE"):
            open_adapter(checkpoint)
        with pytest.raises(UserError, match=r'unknown model "hybird"; .* did you mean "hybrid"'):
            open_adapter(checkpoint, "hybird")


def test_a_notebook_checkpoint_runs_and_is_cut_under_its_own_names(tmp_path: Path) -> None:
    """Sizes are small, names and layout the notebooks'; heads are known to be ten."""
    config = preset("thesis").replace(
        image_size=96, widths=[16, 32, 20, 24], attention_heads=5, d_model=40, queries=10,
        depths=[1, 1, 1, 1], neck_repeats=2,
    )  # fmt: skip
    model = HybridDetector(config, seed=2)
    names = legacy.to_legacy(model.state_dict(), config)
    state = {names[name]: tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 5, "model": state, "best_ap": 0.1}, tmp_path / "best.pth")

    adapter = adapter_of(tmp_path / "best.pth")
    assert adapter.classes == voc_xml.CLASSES
    with open_checkpoint(tmp_path / "best.pth") as checkpoint:
        found = attentions(checkpoint.tensors, checkpoint.config)
        heads = {one.prefix: one.heads for one in found}
        assert heads["decoder.layers.0.cross_attn"] == 10
        assert heads["backbone.st3.0.dat1.stage.attns.0"] == 5
        one = heads_each([a for a in found if a.prefix == "decoder.layers.1.self_attn"])[7]
        write_variants(checkpoint, {tmp_path / "cut.pth": one})
    from_file = adapter_of(tmp_path / "cut.pth").module.state_dict()
    with applied(adapter.module, one, adapter.live_names()):
        for name, tensor in adapter.module.state_dict().items():
            assert torch.equal(tensor, from_file[name]), name
    assert not from_file["decoder.layers.1.self_attn.out_proj.weight"][:, 28:32].any()


def test_detections_of_a_data_set(adapter: HybridAdapter) -> None:
    dataset = limit(Shapes(100, seed=3, size=96), 5)
    found = detect_all(adapter, dataset, batch_size=2)
    assert np.bincount(found.image).tolist() == [96] * 5
    truth = ground_truth(dataset)
    assert truth.image_ids.tolist() == [0, 1, 2, 3, 4]
    assert len(truth) == sum(len(dataset.annotations(i)) for i in range(5))


def test_detections_do_not_depend_on_the_batch(adapter: HybridAdapter) -> None:
    """An image without objects is among them."""

    class OneEmpty(Shapes):
        def scene(self, index: int) -> list[Figure]:
            return [] if index == 3 else super().scene(index)

    dataset = OneEmpty(9, seed=3, size=96)
    assert len(dataset.annotations(3)) == 0
    alone, together = (detect_all(adapter, dataset, batch_size=size) for size in (1, 8))
    assert np.array_equal(alone.image, together.image)
    np.testing.assert_allclose(alone.scores, together.scores, atol=1e-5)
    np.testing.assert_allclose(alone.boxes, together.boxes, atol=1e-5 * 96)
    truth = ground_truth(dataset)
    numbers = [average_precision(truth, found).overall["AP"] for found in (alone, together)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)


def test_outputs_that_are_no_numbers_are_no_detections(adapter: HybridAdapter) -> None:
    broken = Ablation("x", "component", (Edit("heads.main.box_head.bias", value=float("nan")),))
    with applied(adapter.module, broken):
        found = detect_all(adapter, limit(Shapes(3, size=96), 2))
    assert len(found) == 0


def test_classes_are_matched_by_name() -> None:
    assert match_classes(["cat", "dog", "tv"], ["dog", "cat"]).tolist() == [1, 0, -1]
    assert match_classes(["cat", "tv", "couch"], ["sofa", "tvmonitor", "cat"]).tolist() == [2, 1, 0]
    assert match_classes(["sofa", "couch"], ["couch", "sofa"]).tolist() == [1, 0]
    with pytest.raises(
        UserError, match=r"\(a, b\) and the data set's \(c\) have no name in common"
    ):
        match_classes(["a", "b"], ["c"])


def test_a_model_with_other_classes_loses_what_the_data_does_not_have(hybrid: Path) -> None:
    adapter = adapter_of(hybrid)

    class Fewer(Shapes):
        classes = ("star", "ring")
        category_ids = (1, 2)

    found = detect_all(adapter, limit(Fewer(10, size=96), 1))
    assert set(found.labels.tolist()) == {0, 1}
