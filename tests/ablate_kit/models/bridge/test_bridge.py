"""MMDetection checkpoints become Hugging Face folders that lack nothing and hold nothing else."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import ModelOutput

from ablate_kit.ablations.attention import attentions
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.mmdetection.mmdet_names import DETR
from ablate_kit.models.bridge.name_rules import NameRule, origins
from ablate_kit.models.bridge.to_transformers import to_transformers
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.rewriting.conversions import write_bridge
from tests.ablate_kit.conftest import Run
from tests.ablate_kit.models.conftest import of_training
from tests.json_changes import Change, change, drop

VARIANTS = ("detr", "conditional", "dab", "deformable", "refine", "two-stage", "dino", "co-dino")
TRAINING = {"dn_query_generator.label_embedding.weight", *(name for name, _ in of_training())}
Write = Callable[..., Path]
setting = partial(change, "meta", "cfg", "model")
DAB_FFN = {"embed_dims": 32, "act_cfg": {"type": "ReLU"}}


def bridged(source: Path, folder: Path) -> Path:
    with open_checkpoint(source) as checkpoint:
        write_bridge(to_transformers(checkpoint), folder)
    return folder


def model_of(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForObjectDetection

    own_code = (folder / "modeling_dino_detr.py").exists()
    return AutoModelForObjectDetection.from_pretrained(
        folder, trust_remote_code=own_code, **options
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_name_has_its_place(mmdetection: Write, tmp_path: Path, variant: str) -> None:
    folder = bridged(mmdetection(variant), tmp_path / "hf")
    _, report = model_of(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_element_arrives_once(mmdetection: Write, tmp_path: Path, variant: str) -> None:
    """All elements of the file are given numbers of their own, and each is looked for."""
    total = 0

    def number(content: dict[str, Any]) -> None:
        nonlocal total
        seen: dict[int, torch.Tensor] = {}
        for name, tensor in content["state_dict"].items():
            if "num_batches_tracked" in name or name in TRAINING:
                continue
            if tensor.data_ptr() not in seen:
                numbers = torch.arange(total, total + tensor.numel(), dtype=torch.float32)
                seen[tensor.data_ptr()] = numbers.reshape(tensor.shape) + 1
                total += tensor.numel()
            content["state_dict"][name] = seen[tensor.data_ptr()]

    path = mmdetection(variant, number)
    assert total < 2**24  # float32 tells them apart
    model = model_of(bridged(path, tmp_path / "hf"))
    storages = {}
    for tensor in model.state_dict().values():
        storages[tensor.data_ptr()] = tensor
    counts = Counter(
        value for tensor in storages.values() for value in tensor.flatten().long().tolist()
    )
    zeros = counts.pop(0, 0)  # the convolutions' biases, which MMDetection leaves out
    assert zeros == (0 if variant in ("detr", "conditional", "dab") else 4 * 32)
    assert set(counts) == set(range(1, total + 1))
    assert set(counts.values()) == {1}


def test_rows_are_split_into_queries_keys_and_values(mmdetection: Write, tmp_path: Path) -> None:
    path = mmdetection("detr")
    whole = torch.load(path)["state_dict"]["decoder.layers.1.cross_attn.attn.in_proj_weight"]
    tensors = load_file(bridged(path, tmp_path / "hf") / "model.safetensors")
    parts = [tensors[f"model.decoder.layers.1.encoder_attn.{one}_proj.weight"] for one in "qkv"]
    assert torch.equal(torch.cat(parts), whole)


def test_of_tied_heads_the_last_counts(mmdetection: Write, tmp_path: Path) -> None:
    """Saved from a GPU they are separate copies, which MMDetection loads one over the other."""

    def cut_last(content: dict[str, Any]) -> None:
        name = "bbox_head.cls_branches.2.weight"
        content["state_dict"][name] = torch.zeros_like(content["state_dict"][name])

    folder = bridged(mmdetection("deformable", cut_last), tmp_path / "hf")
    assert not load_file(folder / "model.safetensors")["class_embed.0.weight"].any()


def test_the_folder_is_a_model_of_ours(mmdetection: Write, tmp_path: Path) -> None:
    folder = bridged(mmdetection("two-stage"), tmp_path / "hf")
    with open_checkpoint(folder) as checkpoint:
        adapter = open_adapter(checkpoint)
        heads = {one.heads for one in attentions(checkpoint.tensors, checkpoint.config)}
    assert adapter.classes == ("cat", "dog", "tv")
    assert heads == {4}
    config = json.loads((folder / "preprocessor_config.json").read_text())
    assert config["size"] == {"shortest_edge": 96, "longest_edge": 160}
    assert config["image_mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert config["image_std"] == pytest.approx([0.229, 0.224, 0.225])


def test_a_list_says_where_each_tensor_comes_from(mmdetection: Write, tmp_path: Path) -> None:
    folder = bridged(mmdetection("detr"), tmp_path / "hf")
    names = json.loads((folder / "original_names.json").read_text())
    assert set(names) == set(load_file(folder / "model.safetensors"))
    packed = "encoder.layers.0.self_attn.attn.in_proj_weight"
    assert names["model.encoder.layers.0.self_attn.k_proj.weight"] == f"{packed}, part 2 of 3"


def test_the_receipt_makes_the_folder_again(mmdetection: Write, run: Run, tmp_path: Path) -> None:
    path = mmdetection("two-stage")
    folder, again = bridged(path, tmp_path / "hf"), tmp_path / "again"
    assert "original  ok" in run("verify", folder)
    run("apply", path, folder / "convert.json", "-o", again)
    names = sorted(one.name for one in folder.iterdir())
    assert names == sorted(one.name for one in again.iterdir())
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    run("verify", folder, code=1)


def test_the_command(mmdetection: Write, run: Run, refuse: Run, tmp_path: Path) -> None:
    path, folder = mmdetection("refine"), tmp_path / "hf"
    command = ("convert", path, "--to", "transformers")
    dry = run(*command, "-o", folder, "--dry-run")
    assert not folder.exists()
    told = run(*command, "-o", folder)
    assert dry == f"{told}dry run: nothing written\n"
    assert told.splitlines()[1] == "added: 4 biases of zeros, which MMDetection leaves out"
    assert (folder / "model.safetensors").is_file()
    assert "exists" in refuse(*command, "-o", folder)
    assert "give one" in refuse(*command, "--to-legacy", "-o", tmp_path / "x")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (setting("type", to="DDQDETR"), "cannot carry a DDQDETR over"),
        (setting("type", to="mmdet.models.FasterRCNN"), "FasterRCNN over"),
        (setting("with_box_refine", to=False), "model.with_box_refine is False"),
        (setting("dn_cfg", to={}), "model.dn_cfg is {}, which this conversion"),
        (setting("positional_encoding", "temperature", to=20),
         r"positional_encoding.temperature is 20, .* expected 10000"),
        (setting("backbone", "type", to="SwinTransformer"), "backbone.type is 'Swin"),
        (setting("backbone", "deep_stem", to=True), "backbone.deep_stem is True"),
        (setting("backbone", "out_indices", to=None),
         "backbone.out_indices is None; expected numbers from 0 on"),
        (setting("neck", "in_channels", to=["a"]),
         r"neck.in_channels is \['a'\]; expected numbers from 1 on"),
        (setting("data_preprocessor", "bgr_to_rgb", to=False),
         "data_preprocessor.bgr_to_rgb is False"),
        (setting("decoder", "layer_cfg", "self_attn_cfg", "num_heads", to=2),
         r"attentions of \[2, 4\] heads"),
        (setting("encoder", "layer_cfg", "ffn_cfg", "act_cfg", to={"type": "GELU"}),
         "ffn_cfg.act_cfg is {'type': 'GELU'}"),
        (setting("bbox_head", "num_classes", to=4), "names 3 classes for 4 outputs"),
        (change("meta", "cfg", "test_pipeline", to=[{"type": "Pad", "size_divisor": 32}]),
         "test_pipeline.0 is Pad"),
        (drop("meta", "cfg"), "carries no configuration"),
        (drop("meta", "cfg", "model", "data_preprocessor"),
         r"of MMDetection 2 \(it has no model.data_preprocessor\); expected one of version 3"),
        (drop("meta", "dataset_meta"), "carries no class names"),
        (change("state_dict", "extra.weight", to=torch.ones(1)), '"extra.weight" has no place'),
        (change("state_dict", "data_preprocessor.mean", to=torch.ones(3, 1, 1)),
         "data_preprocessor.mean is"),
    ],
)  # fmt: skip
def test_what_has_no_exact_counterpart_is_refused(
    mmdetection: Write, tmp_path: Path, edit: Change, message: str
) -> None:
    path = mmdetection("two-stage", edit)
    with pytest.raises(UserError, match=message):
        bridged(path, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_two_tensors_never_go_to_one_place() -> None:
    rules = (*DETR, NameRule("twin.{p}", ("model.decoder.layernorm.{p}",)))
    names = [
        f"{layer}.{one}" for layer in ("decoder.post_norm", "twin") for one in ("bias", "weight")
    ]
    with pytest.raises(UserError, match=r'"model\.decoder\.layernorm\.bias"$'):
        origins(names, rules, ())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (setting("decoder", "query_dim", to=2), "decoder.query_dim is 2, .* expected 4"),
        (setting("decoder", "query_scale_type", to="cond_scalar"), "is 'cond_scalar', .* expected"),
        (setting("decoder", "with_modulated_hw_attn", to=False), "with_modulated_hw_attn is False"),
        (setting("num_patterns", to=-1), "num_patterns is -1; expected a whole number from 0 on"),
        (
            setting("decoder", "layer_cfg", "cross_attn_cfg", "cross_attn", to=False),
            "cross_attn_cfg.cross_attn is False, .* expected True",
        ),
        (
            setting("decoder", "layer_cfg", "ffn_cfg", to={"feedforward_channels": 48, **DAB_FFN}),
            "encoder has prelu and model.decoder relu in the feed-forward layers",
        ),
    ],
)  # fmt: skip
def test_what_dab_detr_has_no_counterpart_of_is_refused(
    mmdetection: Write, tmp_path: Path, edit: Change, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        bridged(mmdetection("dab", edit), tmp_path / "hf")


def test_positions_of_all_layers_of_dab_detr(mmdetection: Write, tmp_path: Path) -> None:
    def keep(content: dict[str, Any]) -> None:
        decoder = content["meta"]["cfg"]["model"]["decoder"]
        decoder["layer_cfg"]["cross_attn_cfg"]["keep_query_pos"] = True
        for i in (1, 2):
            place = f"decoder.layers.{i}.cross_attn.qpos_proj"
            content["state_dict"] |= {
                f"{place}.weight": torch.ones(32, 32),
                f"{place}.bias": torch.ones(32),
            }

    assert model_of(bridged(mmdetection("dab", keep), tmp_path / "hf")).config.keep_query_pos
    conditional = setting("decoder", "layer_cfg", "cross_attn_cfg", "keep_query_pos", to=True)
    with pytest.raises(UserError, match=r"cross_attn_cfg.keep_query_pos is True, .* False"):
        bridged(mmdetection("conditional", conditional), tmp_path / "other")


@pytest.mark.parametrize("variant", ["detr", "dab", "dino"])
def test_earlier_names_of_settings(mmdetection: Write, tmp_path: Path, variant: str) -> None:
    """As in the configurations that files of the model zoo were trained with."""
    written = bridged(mmdetection(variant), tmp_path / "hf")
    earlier = {
        "num_queries": "num_query",
        "encoder": "encoder_cfg",
        "decoder": "decoder_cfg",
        "positional_encoding": "positional_encoding_cfg",
    }

    def rename(content: dict[str, Any]) -> None:
        model = content["meta"]["cfg"]["model"]
        content["meta"]["cfg"]["model"] = {earlier.get(key, key): model[key] for key in model}

    path = mmdetection(variant, rename)
    again = bridged(path, tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (written / name).read_bytes()
    with open_checkpoint(path) as checkpoint:
        heads = {one.heads for one in attentions(checkpoint.tensors, checkpoint.config)}
    assert heads == {4}

    def both(content: dict[str, Any]) -> None:
        content["meta"]["cfg"]["model"]["num_query"] = 9

    with pytest.raises(UserError, match=r"model\.num_query is 9, which this conversion"):
        bridged(mmdetection(variant, both), tmp_path / "both")


def test_the_offset_of_dino_s_places_goes_over(mmdetection: Write, tmp_path: Path) -> None:
    """The improved DINO of the model zoo has that of Deformable DETR."""
    offset = partial(setting, "positional_encoding", "offset")
    folder = bridged(mmdetection("dino", offset(to=-0.5)), tmp_path / "hf")
    assert json.loads((folder / "config.json").read_text())["position_offset"] == -0.5
    with pytest.raises(UserError, match=r"offset is -0\.25, .*; expected 0\.0 or -0\.5"):
        bridged(mmdetection("dino", offset(to=-0.25)), tmp_path / "other")


co_dino_setting = partial(setting, "query_head")
LAYER = ("transformer", "decoder", "transformerlayers")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (setting("use_lsj", to=True), "model.use_lsj is True, .* expected False"),
        (drop("meta", "cfg", "model", "use_lsj"), "model.use_lsj is True"),
        (setting("eval_module", to="two-stage"), "eval_module is 'two-stage', .* expected 'detr'"),
        (co_dino_setting("type", to="CoDeformDETRHead"), "query_head.type is 'CoDeformDETRHead'"),
        (co_dino_setting("num_classes", to=4), "num_classes is 4, .* expected 3"),
        (co_dino_setting("loss_cls", "use_sigmoid", to=False), "loss_cls.use_sigmoid is False"),
        (co_dino_setting("norm_reg", to=1), "query_head.norm_reg is 1, which this conversion"),
        (co_dino_setting("transformer", "mixed_selection", to=False), "mixed_selection is False"),
        (co_dino_setting(*LAYER, "operation_order", to=["self_attn", "norm"]),
         r"operation_order is \['self_attn', 'norm'\]"),
        (co_dino_setting(*LAYER, "attn_cfgs", to=[{}]), "attn_cfgs is .* expected '2 of them'"),
        (co_dino_setting(*LAYER, "attn_cfgs", 0, "type", to="Other"), "attn_cfgs.type is 'Other'"),
        (co_dino_setting(*LAYER, "attn_cfgs", to=[1, 2]), "attn_cfgs of the config"),
        (setting("test_cfg", to={}), "model.test_cfg is {}; expected settings of each head"),
        (setting("test_cfg", 0, to={"max_per_img": 50}), "max_per_img is 50, .* expected 100"),
        (setting("test_cfg", 0, "max_per_img", to=5001), "max_per_img is 5001, .* expected 5000"),
        (setting("test_cfg", 0, "score_thr", to=0.1), "test_cfg.0.score_thr is 0.1"),
        (setting("test_cfg", 0, "nms", to={"iou_threshold": 0.8}), "nms.type is 'nms', .* 'soft_"),
        (setting("test_cfg", 0, "nms", "method", to="gaussian"), "nms.method is 'gaussian'"),
        (setting("test_cfg", 0, "nms", "iou_threshold", to=2), "is 2; expected a number from 0"),
        (change("state_dict", "mask_head.x", to=torch.ones(1)), '"mask_head.x" has no place'),
    ],
)  # fmt: skip
def test_what_co_dino_has_no_counterpart_of_is_refused(
    mmdetection: Write, tmp_path: Path, edit: Change, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        bridged(mmdetection("co-dino", edit), tmp_path / "hf")
    assert "\n" not in str(refusal.value)


def test_co_dino_s_detections_that_overlap_score_less(mmdetection: Write, tmp_path: Path) -> None:
    """As many times as its settings say; without them, they are those of transformers."""
    folder = bridged(mmdetection("co-dino"), tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    named = [name for name in config if name.startswith("soft_nms_")]
    assert {name: config[name] for name in named} == {
        "soft_nms_candidates": 300,
        "soft_nms_iou_threshold": 0.8,
        "soft_nms_min_score": 0.001,
    }
    plain = bridged(
        mmdetection("co-dino", drop("meta", "cfg", "model", "test_cfg", 0, "nms")),
        tmp_path / "plain",
    )
    assert not [name for name in json.loads((plain / "config.json").read_text()) if "soft" in name]

    def detections(place: Path) -> Any:
        with open_checkpoint(place) as checkpoint:
            adapter = open_adapter(checkpoint)
        boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.41], [0.2, 0.2, 0.6, 0.6]])
        logits = torch.tensor([[2.0, -20, -20], [1.0, -20, -20], [0.0, -20, -20]])
        outputs = ModelOutput(logits=logits[None], pred_boxes=boxes[None])
        return adapter.decode(outputs, [(100, 200)])[0]

    before, after = detections(plain), detections(folder)
    overlap = 0.4 / 0.41
    assert len(before.scores) == 9
    assert after.queries.tolist() == [0, 2, 1]
    assert after.scores == pytest.approx(before.scores[[0, 2, 1]] * [1, 1, 1 - overlap], rel=1e-5)
    assert after.boxes[1] == pytest.approx([0, 0, 100, 50])  # ends at the image's border
    assert before.boxes[2] == pytest.approx([-20, -10, 100, 50])


NORMALIZE = {
    "type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
    "to_rgb": True,
}  # fmt: skip


def of_version_2(content: dict[str, Any]) -> None:
    """As Co-DETR's own repository saves it."""
    meta = content["meta"]
    model = meta.pop("cfg")["model"]
    meta["CLASSES"] = meta.pop("dataset_meta")["classes"]
    for key in ("use_lsj", "data_preprocessor"):
        del model[key]
    model["query_head"] |= {"with_box_refine": True, "num_feature_levels": 4}
    steps = [{"type": "Resize", "keep_ratio": True}, {"type": "RandomFlip"}, NORMALIZE,
             {"type": "Pad", "size_divisor": 1}, {"type": "ImageToTensor", "keys": ["img"]},
             {"type": "Collect", "keys": ["img"]}]  # fmt: skip
    test = {"type": "MultiScaleFlipAug", "img_scale": (160, 96), "flip": False, "transforms": steps}
    data = {"test": {"pipeline": [{"type": "LoadImageFromFile"}, test]}}
    meta["config"] = {"model": model, "data": data}


def then(*changes: Change) -> Change:
    """One after the other on what version 2 saves, the last as text."""

    def apply(content: dict[str, Any]) -> None:
        of_version_2(content)
        for one in changes:
            one(content)
        whole = content["meta"]["config"]
        content["meta"]["config"] = "\n".join(f"{name} = {whole[name]!r}" for name in whole)

    return apply


def test_co_detr_s_own_files_are_as_those_of_version_3(mmdetection: Write, tmp_path: Path) -> None:
    """But for the detections that soft-NMS begins with, which are as many as queries there."""
    written = bridged(mmdetection("co-dino"), tmp_path / "hf")
    again = bridged(mmdetection("co-dino", then()), tmp_path / "again")
    for name in ("model.safetensors", "preprocessor_config.json"):
        assert (again / name).read_bytes() == (written / name).read_bytes()
    here, there = (json.loads((one / "config.json").read_text()) for one in (again, written))
    assert here == there | {"soft_nms_candidates": 6}


def test_the_swin_of_co_detr_s_own_files(mmdetection: Write, tmp_path: Path) -> None:
    sizes = {"depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 3}
    settings = {"type": "SwinTransformerV1", "embed_dim": 8, "out_indices": [1, 2, 3], **sizes}

    def swin(content: dict[str, Any]) -> None:
        from transformers import SwinConfig

        from ablate_kit.models.architectures.swin_backbone import SwinBackbone

        names = [f"stage{i}" for i in (2, 3, 4)]
        module = SwinBackbone(SwinConfig(embed_dim=8, out_features=names, **sizes))
        state = content["state_dict"]
        for name in [name for name in state if name.startswith("backbone.")]:
            del state[name]
        state |= {f"backbone.{name}": one for name, one in module.state_dict().items()}
        state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(9, 9)

    place = partial(change, "meta", "config", "model", "backbone")
    path = mmdetection("co-dino", then(place(to=settings), swin))
    folder = bridged(path, tmp_path / "hf")
    assert not json.loads((folder / "config.json").read_text())["backbone_config"][
        "merge_by_channel"
    ]
    with open_checkpoint(folder) as checkpoint:
        open_adapter(checkpoint)
    with pytest.raises(UserError, match=r"backbone\.ape is True"):
        bridged(mmdetection("co-dino", then(place(to={**settings, "ape": True}), swin)), tmp_path)


version_2 = partial(change, "meta", "config")
TRANSFORMS = ("data", "test", "pipeline", 1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (version_2("model", "with_attn_mask", to=False), "model.use_lsj is True"),
        (version_2(*TRANSFORMS, "flip", to=True), r"data.test.pipeline.1.flip is True"),
        (version_2(*TRANSFORMS, "transforms", 3, "size_divisor", to=32),
         r"pipeline.1.transforms.3.size_divisor is 32, .* expected 1"),
        (version_2(*TRANSFORMS, "transforms", 3, to={"type": "Pad", "size": [9, 9]}),
         "size_divisor is None"),
        (version_2(*TRANSFORMS, "transforms", 1, to={"type": "Blur"}), "is Blur, which the image"),
        (version_2(*TRANSFORMS, "transforms", 2, to={"type": "Collect"}), "normalizes no colors"),
        (version_2("model", "test_cfg", 0, "max_per_img", to=5), "img is 5, .* expected 100"),
        (version_2(*TRANSFORMS, "transforms", to=[1]), "pipeline.1.transforms.0 of the config"),
        (version_2("data", to={}), "the file's configuration has no data.test.pipeline"),
        (version_2("model", "query_head", "with_box_refine", to=False), "box_refine is False"),
        (version_2("model", "query_head", to=3), "query_head of the configuration is 3"),
    ],
)  # fmt: skip
def test_what_a_file_of_version_2_says_otherwise_is_refused(
    mmdetection: Write, tmp_path: Path, edit: Change, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        bridged(mmdetection("co-dino", then(edit)), tmp_path / "hf")
    assert "\n" not in str(refusal.value)
