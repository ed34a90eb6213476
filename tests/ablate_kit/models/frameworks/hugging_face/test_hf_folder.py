"""Whatever transformers refuses is one line that says what is missing and how to get it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.models.inference.detect import detect
from tests.ablate_kit.small_sweeps import adapter_of

pytest.importorskip("transformers")

Folders = Callable[[str], Path]
GONE = "(left out)"  # a key that is taken out


def changed(folder: Path, file: str, changes: dict[str, Any]) -> None:
    values = json.loads((folder / file).read_text()) | changes
    kept = {key: value for key, value in values.items() if value is not GONE}
    (folder / file).write_text(json.dumps(kept))


def detections(folder: Path, trusted: bool = False) -> int:
    adapter = adapter_of(folder, trust_remote_code=trusted)
    return len(detect(adapter, [np.zeros((40, 50, 3), np.uint8)])[0].scores)


def refusal(folder: Path, trusted: bool = False) -> str:
    with pytest.raises(UserError) as error:
        detections(folder, trusted)
    text = str(error.value)
    assert "\n" not in text
    assert len(text.replace(str(folder), "")) < 300
    return text


@pytest.fixture
def copy(folders: Folders, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders("detr"), tmp_path / "model"))


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "my_detr"}, 'model_type is "my_detr", which transformers'),
    ({"model_type": "rt_detr_v3"}, "does not know; a newer one may"),
    ({"model_type": "RT-DETR-v2"}, 'does not know; is it "rt_detr_v2"?'),
    ({"model_type": GONE}, 'has no "model_type"'),
    ({"model_type": ["detr"]}, 'expected one such as "detr"'),
    ({"model_type": "vit"}, "a model of type vit, which is no object detector"),
    ({"model_type": "pp_ocrv5_mobile_det"}, "is missing in the file"),
    ({"backbone_config": {"model_type": "foo"}}, 'backbone_config.model_type is "foo"'),
    ({"backbone_config": {"depths": [1]}}, 'no "backbone_config.model_type"'),
    ({"backbone_config": {"model_type": "bert"}}, "BertConfig"),
    ({"backbone_config": [1]}, "Field 'backbone_config' with value [1]"),
    ({"encoder_attention_heads": 5}, "the model does not run on images of 128x128 pixels"),
    ({"encoder_attention_heads": 0}, "cannot make the model: ZeroDivisionError"),
    ({"return_dict": False}, "the model does not run on images"),
    ({"d_model": "wide"}, "Field 'd_model' expected int"),
    ({"num_queries": 10**30}, "cannot make the model"),
    ({"activation_function": "foo"}, "does not know activation_function 'foo'"),
    ({"dtype": "float99"}, "no attribute 'float99'"),
    ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "accelerate"),
    ({"id2label": {"99999999999": "cat"}}, "has a class 99999999999; expected numbers below"),
    ({"encoder_layers": 10**8}, "encoder_layers is 100,000,000; expected at most 1,000"),
    ({"backbone_config": {"depths": [1, 10**8]}}, "depths is 100,000,000; expected at most 1,000"),
    ({"id2label": {"-1": "cat"}}, "id2label is not classes by number"),
    ({"id2label": {"0": None}}, "id2label is not classes by number"),
    ({"id2label": ["cat"]}, "id2label is not classes by number"),
    ({"attn_implementation": "quick"}, '`attn_implementation="quick"` is not supported'),
]
PROCESSORS: list[tuple[dict[str, Any], str]] = [
    ({"image_processor_type": "ViTImageProcessor"}, "is not one of a detector"),
    ({"image_processor_type": "Foo"}, "Unrecognized image processor"),
    ({"size": {"foo": 1}}, "size must have one of the following"),
    ({"image_mean": [1, 2]}, "mean must have 3 elements"),
    ({"image_std": [0, 0, 0]}, "no image of finite numbers; see image_mean and image_std"),
]


@pytest.mark.parametrize(("changes", "words"), CONFIGS, ids=[str(c)[:40] for c, _ in CONFIGS])
def test_an_odd_configuration_is_told(copy: Path, changes: dict[str, Any], words: str) -> None:
    changed(copy, "config.json", changes)
    assert words in refusal(copy)


@pytest.mark.parametrize(("changes", "words"), PROCESSORS, ids=[str(c)[:40] for c, _ in PROCESSORS])
def test_an_odd_image_processor_is_told(copy: Path, changes: dict[str, Any], words: str) -> None:
    changed(copy, "preprocessor_config.json", changes)
    assert words in refusal(copy)


def test_files_that_are_missing_or_no_json_are_told(copy: Path) -> None:
    file = copy / "preprocessor_config.json"
    for text in ("{", "[]", "[" * 100_000, '{"size": ' + "9" * 5000 + "}"):
        file.write_text(text)
        assert f"{file} is not" in refusal(copy)
    file.unlink()
    assert "no preprocessor_config.json, which says how images are prepared; copy" in refusal(copy)


def test_an_adapter_beside_the_weights_is_told(copy: Path) -> None:
    """transformers would load it, too."""
    (copy / "adapter_config.json").write_text("{}")
    assert "has an adapter of PEFT" in refusal(copy)
    weights = copy.rename(copy.with_name("other")) / "model.safetensors"
    detections_of = adapter_of(weights, f"transformers:{weights.parent}")  # weights that are merged
    assert detections_of.classes


def test_more_queries_than_places_are_told(folders: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders("rt_detr_v2"), tmp_path / "model"))
    changed(folder, "config.json", {"num_queries": 10_000})
    assert "selected index k out of range" in refusal(folder)


@pytest.mark.parametrize(
    "value",
    [
        {"AutoModelForObjectDetection": "mine.Model"}, {"AutoConfig": "someone/repo--mine.Config"},
        "mine.Model", ["mine.Model"], {"a": ["mine.Model", None]}, {"a": {"b": "mine.Model"}},
        {"a": None}, 7, True,
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("where", ["config.json", "preprocessor_config.json", "backbone_config"])
def test_auto_map_of_any_shape_is_code(copy: Path, value: Any, where: str) -> None:
    if where == "backbone_config":
        inner = {"model_type": "resnet", "auto_map": value}
        changed(copy, "config.json", {"backbone_config": inner})
    else:
        changed(copy, where, {"auto_map": value})
    (copy / "mine.py").write_text("raise SystemExit('it ran')")
    assert "runs its own code" in refusal(copy)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"AutoConfig": "someone/repo--mine.Config"}, "code of another repository"),
        ({"AutoConfig": "../../mine.Config"}, "auto_map is not"),
        ({"AutoConfig": "mine"}, "auto_map is not"),
        (["mine.Config"], "auto_map is not"),
        (7, "auto_map is not"),
        ({"AutoModelForObjectDetection": "absent.Model"}, "a file named absent.py"),
    ],
)  # fmt: skip
def test_trust_is_in_the_files_of_the_folder(copy: Path, value: Any, words: str) -> None:
    changed(copy, "config.json", {"auto_map": value})
    assert words in refusal(copy, trusted=True)


@pytest.mark.parametrize("value", [None, [], "", 0])
def test_an_auto_map_that_names_nothing_is_told(copy: Path, value: Any) -> None:
    changed(copy, "config.json", {"auto_map": value})
    assert "auto_map is not" in refusal(copy)


@pytest.mark.parametrize("key", ["_attn_implementation", "_attn_implementation_internal"])
@pytest.mark.parametrize("value", ["someone/repo", {"": "a/b:c"}, "flash_attention_3"])
def test_attention_of_the_hub_is_refused(copy: Path, key: str, value: Any) -> None:
    changed(copy, "config.json", {key: value})
    assert f"asks for {key}" in refusal(copy)


def test_attention_of_the_library_is_not(copy: Path) -> None:
    changed(copy, "config.json", {"_attn_implementation": "eager"})
    assert detections(copy) == 10


def test_the_library_is_told_to_stay_off_the_hub_while_it_works(copy: Path) -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    # No slash, and not of timm: the library asks the hub whether there is such a repository.
    changes = {"model_type": "rf_detr", "backbone": "resnet18", "backbone_config": None}
    changed(copy, "config.json", changes)
    assert "from the hub, and nothing is downloaded; put what that is into" in refusal(copy)
    assert before == constants.HF_HUB_OFFLINE


def test_a_mistake_of_the_project_stays_one(copy: Path) -> None:
    from ablate_kit.ablations.hooks import hooked_module

    adapter = adapter_of(copy)
    adapter.module.register_forward_pre_hook(lambda *_: hooked_module(None, None))
    with pytest.raises(AttributeError):
        detect(adapter, [np.zeros((40, 50, 3), np.uint8)])


def test_without_timm_its_name_is_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils.import_utils as installed

    if installed.is_timm_available():
        pytest.skip("timm is installed")
    changed(copy, "config.json", {"backbone": "resnet18", "backbone_config": None})
    changed(copy, "config.json", {"use_timm_backbone": True})
    assert "one of timm, which is not installed; pip install timm" in refusal(copy)


def test_without_torchvision_its_name_is_told(folders: Folders, tmp_path: Path) -> None:
    import transformers.utils.import_utils as installed

    if installed.is_torchvision_available():
        pytest.skip("torchvision is installed")
    copy = shutil.copytree(folders("rf_detr"), tmp_path / "model")
    changed(copy, "preprocessor_config.json", {"image_processor_type": "RfDetrImageProcessor"})
    message = "image processor needs torchvision, which is not installed; pip install torchvision"
    assert message in refusal(copy)


TIMM = """
import sys, torch
from torch.library import Library
# torchvision does not import beside builds of torch that it was not made for: its operators are
# looked up, of which none is called here.
library = Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import transformers
from pathlib import Path
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.inference.detect import detect
import numpy as np
folder = Path(sys.argv[1])
config = transformers.DetrConfig(
    use_timm_backbone=True, backbone="resnet18", d_model=32, encoder_layers=1, decoder_layers=1,
    encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=16, decoder_ffn_dim=16,
    num_queries=7,
)
torch.manual_seed(0)
transformers.DetrForObjectDetection(config).save_pretrained(folder)
transformers.DetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
with open_checkpoint(folder) as checkpoint:
    adapter = open_adapter(checkpoint)
    assert all(adapter.live_names().values())
print(len(detect(adapter, [np.zeros((40, 50, 3), np.uint8)])[0].scores))
"""


def test_a_backbone_of_timm_works_where_timm_is(tmp_path: Path) -> None:
    import importlib.util

    if not all(map(importlib.util.find_spec, ("timm", "torchvision"))):
        pytest.skip("timm or torchvision is not installed")
    command = [sys.executable, "-c", TIMM, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "7"
