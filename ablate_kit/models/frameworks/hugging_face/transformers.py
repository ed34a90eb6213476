"""Hugging Face object detectors as a framework: any ``AutoModelForObjectDetection`` folder."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from ablate_kit.ablations.name_patterns import InModel
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.located import located
from ablate_kit.errors import UserError
from ablate_kit.models.framework import Framework, Request
from ablate_kit.models.frameworks.hugging_face.hf_folder import (
    as_user_error,
    bundled_with,
    check_folder,
    check_model_type,
    refuse_adapter,
    without_hub,
)
from ablate_kit.models.frameworks.hugging_face.loading_report import quiet, refuse_misfit
from ablate_kit.models.frameworks.hugging_face.open_vocabulary import OpenVocabularyAdapter, prompt
from ablate_kit.models.frameworks.hugging_face.soft_nms import soft_nms_of
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import TransformersAdapter
from ablate_kit.models.frameworks.hugging_face.transformers_knobs import TransformersKnobs
from ablate_kit.models.frameworks.hugging_face.transformers_training import TransformersTraining
from ablate_kit.plural import first_few
from detector.disk.visible import is_of_macos
from detector.extras import missing

_WORDS = ("vocab.txt", "merges.txt")  # of a tokenizer
_FILLED = ("torch.", "transformers.")  # whose modules make the buffers that no file holds


def _opened(checkpoint: Checkpoint, request: Request) -> TransformersAdapter:
    """The detector that a folder describes, with the weights of ``checkpoint``.

    Raises ``UserError`` when the folder wants to run its own code and is not trusted, asks
    for what is not in it, is no detector's, and when the weights do not fit the model.
    """
    folder = located(Path(request.place)) if request.place else checkpoint.folder
    if folder is None:
        raise UserError(
            f"{checkpoint.path} is a file; give --model transformers:FOLDER with its config"
        )
    trusted = request.trust_remote_code
    check_folder(folder, trusted=trusted)
    if folder == checkpoint.folder:
        refuse_adapter(folder)
    try:
        import transformers
    except ImportError:
        raise missing("a Hugging Face model", "transformers") from None
    if not trusted:
        check_model_type(folder, transformers.CONFIG_MAPPING, transformers.__version__)
    options = {"trust_remote_code": trusted, "local_files_only": True}
    own = bundled_with(folder)
    configs, kind = own.classes() if own else (transformers.AutoConfig, None)
    with quiet(transformers), without_hub():
        with as_user_error(folder, "the configuration"):
            config = configs.from_pretrained(folder, **options)
        soft_nms_of(config, folder / "config.json")  # refused before any weight is read
        kind = kind or _kind(transformers, config, folder, trusted)
        processor = _processor(folder, options)
        asked = None
        if _finds_what_a_text_names(transformers, config):
            asked = prompt(transformers, config, folder, request.class_names, options)
        weights = checkpoint.state_dict()
        with as_user_error(folder, "the model"):
            module, report = kind.from_pretrained(
                None,
                config=config,
                state_dict=weights,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the report tells, not a traceback
            )
        refuse_misfit(report, checkpoint.path, if_foreign=_if_of_another_class(config, kind))
        _fill_unsaved_buffers(module, lambda: kind(deepcopy(config)))
        arrivals, unfilled = _arrivals(kind, config, weights)
        if unfilled:
            raise UserError(
                f"{checkpoint.path}: transformers {transformers.__version__} leaves tensors of the "
                f"model random, {first_few(unfilled, 1)}, so that it computes something else each "
                "time; another version may load it: pip install -U transformers"
            )
        live = _live_names(module, arrivals, weights)
    if asked:
        return OpenVocabularyAdapter(module, processor, live, request.device, asked)
    return TransformersAdapter(module, processor, live, request.device)


def _if_of_another_class(config: Any, kind: Any) -> str:
    """What can be done with a model of another class than the detector, which has more tensors."""
    said = str(next(iter(config.architectures or ()), kind.__name__))
    if said == kind.__name__ or not re.fullmatch(r"\w{1,80}", said):
        return ""
    return (
        f"; the folder is of {said}: {kind.__name__}.from_pretrained(FOLDER)"
        ".save_pretrained(NEW) keeps the detector alone"
    )


def _finds_what_a_text_names(transformers: Any, config: Any) -> bool:
    return type(config) in transformers.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING


def _kind(transformers: Any, config: Any, folder: Path, trusted: bool) -> Any:
    """The class of the model; no weights are made."""
    if _finds_what_a_text_names(transformers, config):
        with as_user_error(folder, "the model"), torch.device("meta"):
            return type(transformers.AutoModelForZeroShotObjectDetection.from_config(config))
    detectors = transformers.AutoModelForObjectDetection
    own = "AutoModelForObjectDetection" in (getattr(config, "auto_map", None) or {})
    if type(config) not in transformers.MODEL_FOR_OBJECT_DETECTION_MAPPING and not own:
        raise UserError(
            f"{folder} holds a model of type {config.model_type}, which is no object detector of "
            f"transformers {transformers.__version__}; expected one such as detr or rt_detr_v2"
        )
    with as_user_error(folder, "the model"), torch.device("meta"):
        return type(detectors.from_config(config, trust_remote_code=trusted))


def _processor(folder: Path, options: Mapping[str, Any]) -> Any:
    """What prepares images and reads detections, seen to work on an image."""
    # The package's own name for it wants torchvision in releases 5.4 to 5.17.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    with as_user_error(folder, "the image processor"):
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **options)
        if not hasattr(processor, "post_process_object_detection"):
            raise UserError(
                f"{folder}: the image processor {type(processor).__name__} is not one of a "
                "detector (it has no post_process_object_detection); copy preprocessor_config.json "
                "from the model that this one was trained from"
            )
        prepared = processor(images=Image.new("RGB", (64, 48)), return_tensors="pt")
        if "pixel_values" not in prepared or not prepared["pixel_values"].isfinite().all():
            raise UserError(
                f"{folder}: the image processor makes no image of finite numbers; "
                "see image_mean and image_std in preprocessor_config.json"
            )
    return processor


def _arrivals(
    kind: Any, config: Any, weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, list[str]], list[str]]:
    """Where the loader puts each tensor of the file: its names in the model. Also the parameters
    that nothing of the file arrives in, but for those that files need not have: the last norm of a
    Swin, whose outputs a backbone does not take.

    The library renames on loading, and shares among modules what the file holds once. Rather
    than copying its rules, this loads a file whose k-th tensor is filled with the number k, and
    looks where k arrives.
    """
    floating = [name for name, tensor in weights.items() if tensor.is_floating_point()]
    # Numbers from 1: what the loader leaves at zero must not look like the first tensor.
    numbered = {
        name: torch.full((), float(k)).expand(weights[name].shape)
        for k, name in enumerate(floating, start=1)
    }
    others = {
        name: torch.ones((), dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in weights.items()
        if name not in numbered
    }
    # In float32, whatever the config says: half precision has no 257, and 257 tensors are not rare.
    module = kind.from_pretrained(
        None, config=config, state_dict={**numbered, **others}, dtype=torch.float32
    )
    found: dict[str, list[str]] = {name: [] for name in floating}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            k = tensor.flatten()[0].item()
            if k in range(1, len(floating) + 1) and bool((tensor == k).all()):
                found[floating[int(k) - 1]].append(name)
    needless = [re.compile(one) for one in module._keys_to_ignore_on_load_missing or ()]
    unfilled = [
        name
        for name, one in module.named_parameters()
        if one.numel()
        and not bool(((one >= 1) & (one == one.round())).all())
        and not any(pattern.search(name) for pattern in needless)
    ]
    return found, unfilled


def _fill_unsaved_buffers(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Gives modules the buffers that checkpoints do not hold as ``build`` makes them, which is
    called where there are such.

    transformers builds a model without memory, and leaves it to the model to fill such buffers
    after loading. Its own models do; modules of other libraries, such as the window attention of
    timm's Swin, and those of a folder's own code may not: they would compute with whatever was in
    memory.
    """
    names = [
        f"{prefix}.{name}".lstrip(".")
        for prefix, owner in module.named_modules()
        if not type(owner).__module__.startswith(_FILLED)
        for name in owner._non_persistent_buffers_set
        if owner._buffers[name] is not None
    ]
    if not names:
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        built = dict(build().named_buffers())
        for name in names:
            module.get_buffer(name).copy_(built[name])


def _live_names(
    module: Any, arrivals: Mapping[str, Sequence[str]], weights: Mapping[str, torch.Tensor]
) -> InModel:
    """``arrivals`` where the tensor of the model is that of the file, element for element.

    A loader might transpose or split a tensor; an edit of some of its elements would then mean
    another edit of the model. Of equal copies in the file the loader may read one alone, where the
    model holds both as one: earlier versions of the library share whole modules.
    """
    live = module.state_dict()
    held = module.state_dict(keep_vars=True)
    arrivals = {
        name: names or [one for one in held if name in held and held[one] is held[name]]
        for name, names in arrivals.items()
    }
    names = {
        name: tuple(there for there in names if torch.equal(live[there], weights[name].float()))
        for name, names in arrivals.items()
    }
    parts = {name: tuple(arrivals[name]) for name, found in names.items() if not found}
    for name, found in list(parts.items()):
        sizes = {live[there].data_ptr(): live[there].numel() for there in found}
        if sum(sizes.values()) != weights[name].numel():
            del parts[name]
    return InModel(names, parts)


def _files(place: str) -> list[Path]:
    """The configuration, words and code in a folder."""
    if not place or not (folder := located(Path(place))).is_dir():
        return []
    files = [one for one in sorted(folder.iterdir()) if not is_of_macos(one.name)]
    told = [one for one in files if one.suffix in (".json", ".py") or one.name in _WORDS]
    return [one for one in told if one.is_file()]


FRAMEWORK = Framework(
    _opened,
    takes="[:FOLDER]",
    recognizes=lambda checkpoint: checkpoint.has_config_file,
    files=_files,
    packages=("transformers",),
    training=TransformersTraining,
    knobs=TransformersKnobs,
)
