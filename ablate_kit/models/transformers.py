"""Adapter for Hugging Face object detectors: any ``AutoModelForObjectDetection`` folder."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import ImageDetections, Prepared
from detector.data.dataset import Pixels


class TransformersAdapter:
    def __init__(
        self,
        module: Any,
        processor: Any,
        live: Mapping[str, tuple[str, ...]],
        device: str = "cpu",
    ) -> None:
        self.module = module.to(device).eval()
        self.processor = processor
        self.device = device
        names = module.config.id2label
        self.classes = tuple(names.get(i, f"LABEL_{i}") for i in range(max(names) + 1))
        self._live = live

    @staticmethod
    def open(
        checkpoint: Checkpoint,
        folder: Path,
        *,
        trust_remote_code: bool = False,
        device: str = "cpu",
    ) -> "TransformersAdapter":
        """The detector that ``folder`` describes, with the weights of ``checkpoint``.

        Raises ``UserError`` when the folder wants to run its own code and is not trusted, and
        when the weights do not fit the model.
        """
        refuse_untrusted(folder, trust_remote_code)
        transformers = _import()
        options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
        with _quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(folder, **options)
            with torch.device("meta"):  # for its class only; no weights are made
                kind = type(
                    transformers.AutoModelForObjectDetection.from_config(
                        config, trust_remote_code=trust_remote_code
                    )
                )
            processor = transformers.AutoImageProcessor.from_pretrained(
                folder, backend="pil", **options
            )
            weights = checkpoint.state_dict()
            module, report = kind.from_pretrained(
                None,
                config=config,
                state_dict=weights,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the report tells, not a traceback
            )
            _check(report, checkpoint)
            live = _live_names(module, _arrivals(kind, config, weights), weights)
        return TransformersAdapter(module, processor, live, device)

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        return self._live

    def same_model(self, other: object) -> bool:
        return isinstance(other, TransformersAdapter) and _description(self) == _description(other)

    def prepare(self, image: Pixels) -> Prepared:
        inputs = self.processor(images=Image.fromarray(image), return_tensors="pt")
        return Prepared(dict(inputs), image.shape[:2])

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        return self.module(**{name: tensor.to(self.device) for name, tensor in inputs.items()})

    def decode(self, outputs: Any, origins: Sequence[Any]) -> list[ImageDetections]:
        process = self.processor.post_process_object_detection
        results = process(outputs, threshold=0.0, target_sizes=list(origins))
        # The library does not tell which query a detection comes from. So it decodes boxes once
        # more that are numbered: query k's is a point at (k, k).
        logits, boxes = outputs.logits, outputs.pred_boxes
        number = torch.arange(boxes.shape[1], dtype=torch.float32, device=boxes.device)
        points = torch.stack([number, number, *[torch.zeros_like(number)] * 2], dim=-1)
        numbered = SimpleNamespace(logits=logits, pred_boxes=points.expand(len(boxes), -1, -1))
        again = process(numbered, threshold=0.0, target_sizes=[(1, 1)] * len(origins))
        return [
            _sorted(result, numbers["boxes"][:, 0])
            for result, numbers in zip(results, again, strict=True)
        ]


def refuse_untrusted(folder: Path, trusted: bool) -> None:
    """Refuses a folder whose config names code of its own, unless it is trusted."""
    if trusted:
        return
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} has no config.json") from None
    except (OSError, ValueError):
        raise UserError(f"{folder}/config.json is not readable as JSON") from None
    code = config.get("auto_map") if isinstance(config, dict) else None
    if code:
        files = sorted({str(name).split(".")[0] + ".py" for name in dict(code).values()})
        raise UserError(
            f"{folder} runs its own code ({', '.join(files)}); read it, then add "
            "--trust-remote-code to run it. Inspecting and cutting need no such trust"
        )


def _description(adapter: TransformersAdapter) -> tuple[Any, ...]:
    """All that a detector is made from but its weights."""
    kind = type(adapter.module)
    config = adapter.module.config.to_dict()
    config.pop("_name_or_path", None)
    # A folder's own code is imported anew from each copy of the folder.
    code = inspect.getsource(inspect.getmodule(kind) or kind)
    return kind.__qualname__, code, config, adapter.processor.to_dict()


def _import() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError(
            'Hugging Face models need transformers; install "ablate-kit[transformers]"'
        ) from None
    return transformers


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the library's progress bars and load reports; errors are ours to tell."""
    log = transformers.utils.logging
    verbosity = log.get_verbosity()
    bars = log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _check(report: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Refuses weights that do not fit, by the library's own account of loading them."""
    for name, there, here in sorted(report["mismatched_keys"]):
        raise UserError(
            f'{checkpoint.path}: tensor "{name}" has shape {tuple(there)}, the model expects '
            f"{tuple(here)}"
        )
    for problem, what in (
        ("missing_keys", "of the model is missing in the file"),
        ("unexpected_keys", "has no place in the model"),
    ):
        names = sorted(report[problem])
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise UserError(f'{checkpoint.path}: tensor "{names[0]}"{more} {what}')


def _arrivals(kind: Any, config: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Where the loader puts each tensor of the file: its names in the model.

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
    others = {name: tensor for name, tensor in weights.items() if name not in numbered}
    module = kind.from_pretrained(None, config=config, state_dict={**numbered, **others})
    found: dict[str, list[str]] = {name: [] for name in floating}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            k = tensor.flatten()[0].item()
            if k in range(1, len(floating) + 1) and bool((tensor == k).all()):
                found[floating[int(k) - 1]].append(name)
    return found


def _live_names(
    module: Any, arrivals: Mapping[str, Sequence[str]], weights: Mapping[str, torch.Tensor]
) -> dict[str, tuple[str, ...]]:
    """``arrivals`` where the tensor of the model is that of the file, element for element.

    A loader might transpose or split a tensor; an edit of the file would then mean another edit
    of the model, so such a tensor has no live name.
    """
    live = module.state_dict()
    return {
        name: tuple(there for there in names if torch.equal(live[there], weights[name].float()))
        for name, names in arrivals.items()
    }


def _sorted(result: Mapping[str, torch.Tensor], queries: torch.Tensor) -> ImageDetections:
    scores = result["scores"].double().cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    return ImageDetections(
        boxes=result["boxes"].double().cpu().numpy()[order],
        scores=scores[order],
        labels=result["labels"].cpu().numpy()[order],
        queries=queries.long().cpu().numpy()[order],
    )
