"""Adapter for MMDetection's detectors, built by MMDetection from a configuration.

A configuration is a program: MMEngine runs it. So it is read only where the user says that it may
run, also the text of it that a checkpoint carries.
"""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import Prepared
from ablate_kit.models.bridge.mmdetection.mmdet_counterpart import (
    has_configuration,
    mmdet_counterpart,
)
from ablate_kit.models.framework import Framework, Request
from ablate_kit.models.frameworks import misfit
from ablate_kit.models.frameworks.forward import ForwardPasses, describe_error
from ablate_kit.models.frameworks.source_files import check_configurations, configurations
from ablate_kit.models.image_detections import ImageDetections
from detector.data.dataset import Pixels
from detector.fetch import fetched

INSTALL = (
    "install mmdet 3.3.0, mmengine 0.10 and mmcv 2.1.0 in an environment of their own "
    "(docs/mmdetection.md)"
)
# What the network asks of an image beside its pixels.
SHAPES = ("ori_shape", "img_shape", "scale_factor")
# Versions before 3.0 saved the colors' mean and deviation; they are the configuration's now.
COLORS = {"data_preprocessor.mean", "data_preprocessor.std"}


class MMDetAdapter:
    def __init__(
        self,
        module: Any,
        pipeline: Any,
        classes: tuple[str, ...],
        live: Mapping[str, tuple[str, ...]],
        config: Any,
        device: str,
    ) -> None:
        self.module = module.to(device).eval()
        self.classes = classes
        self.device = device
        self.config = config
        self._pipeline = pipeline
        # Images are prepared in threads while the network is watched: not by a part of it, and in
        # this machine's memory, whatever the network runs on.
        self._preprocess = copy.deepcopy(module.data_preprocessor).cpu()
        self._live = live
        self._passes = ForwardPasses("MMDetection's model", "the test pipeline makes them")

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        return self._live

    def same_model(self, other: object) -> bool:
        return (
            isinstance(other, MMDetAdapter)
            and self.config.model == other.config.model
            and self.config.test_dataloader == other.config.test_dataloader
            and self.classes == other.classes
        )

    def prepare(self, image: Pixels) -> Prepared:
        bgr = np.ascontiguousarray(image[..., ::-1])
        packed = self._pipeline({"img": bgr, "img_id": 0})
        data = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
        data = self._preprocess(data, False)
        about = data["data_samples"][0].metainfo
        shapes = {key: torch.tensor([about[key]]) for key in SHAPES[:2]}
        if "scale_factor" in about:
            shapes["scale_factor"] = torch.tensor([about["scale_factor"]], dtype=torch.float64)
        return Prepared({"images": data["inputs"], **shapes}, None)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> list[tuple[torch.Tensor, ...]]:
        """Boxes in pixels of the original image, scores and labels of each image, and of a
        detection transformer the queries that they come from."""
        from mmdet.structures import DetDataSample

        images = inputs["images"].to(self.device)
        size = tuple(images.shape[-2:])
        known = [key for key in SHAPES if key in inputs]
        shapes = dict(zip(known, fetched([inputs[key] for key in known]), strict=True))
        samples = []
        for i in range(len(images)):
            about = {key: tuple(shape[i].tolist()) for key, shape in shapes.items()}
            samples.append(DetDataSample(metainfo={
                **about, "batch_input_shape": size, "pad_shape": size,
            }))  # fmt: skip
        with _queries(self.module) as queries, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.meshgrid")  # how MMDetection calls it
            # An image may be too small, as for a choice of 900 queries among 500.
            with self._passes.on(images):
                results = self.module(images, samples, mode="predict")
        found = [one.pred_instances for one in results]
        columns: list[tuple[torch.Tensor, ...]] = [
            (one.bboxes, one.scores, one.labels) for one in found
        ]
        if not queries:
            return columns
        return [(*one, query) for one, query in zip(columns, queries, strict=True)]

    def decode(
        self,
        outputs: Sequence[tuple[torch.Tensor, ...]],
        origins: Sequence[Any],
        limit: int = MAX_DETECTIONS,
    ) -> list[ImageDetections]:
        """All that the model gives, of which its configuration says how many (``max_per_img``)."""
        columns = [column for one in outputs for column in one]
        here = iter(fetched(columns))
        return [ImageDetections.of_tensors(*(next(here) for _ in one)) for one in outputs]


class MMDetection:
    """MMDetection, imported here alone."""

    def __init__(self) -> None:
        try:
            import mmdet
            import mmdet.apis
            import mmdet.registry
            import mmdet.utils
            import mmengine.config
            import mmengine.registry
        except ModuleNotFoundError as error:
            raise UserError(f"MMDetection models need {error.name}; {INSTALL}") from None
        # It checks the versions of its own parts with assertions; other versions of torch and
        # NumPy than its compiled parts were made for end in one of the rest.
        except (ImportError, AssertionError, AttributeError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"MMDetection does not work here ({reason}); {INSTALL}") from None
        self._mmdet: ModuleType = mmdet
        self._mmengine: ModuleType = mmengine

    def settings(self, path: Path | None, text: str | None) -> Any:
        kind = self._mmengine.config.Config
        try:
            if path:
                return kind.fromfile(path)
            return kind.fromstring(text, ".py")
        except Exception as error:  # whatever the configuration's own code may raise
            where = path or "the checkpoint's configuration"
            raise UserError(f"{where} does not run: {describe_error(error)}") from None

    def build(self, settings: Any) -> Any:
        scope = settings.get("default_scope", "mmdet")
        self._mmengine.registry.init_default_scope(scope)
        from mmengine.model.utils import revert_sync_batchnorm

        try:
            return revert_sync_batchnorm(
                self._mmdet.registry.MODELS.build(copy.deepcopy(settings.model))
            )
        except Exception as error:  # whatever the classes that it names may raise
            raise UserError(
                f"MMDetection cannot build the configuration's model: {describe_error(error)}"
            ) from None

    def pipeline(self, settings: Any) -> Any:
        """The steps for test images, beginning with pixels in place of a file."""
        from mmcv.transforms import Compose

        try:
            steps = copy.deepcopy(self._mmdet.utils.get_test_pipeline_cfg(settings))
            steps[0].type = "mmdet.LoadImageFromNDArray"
            return Compose(steps)
        except Exception as error:  # as above
            raise UserError(
                f"the configuration has no usable test pipeline: {describe_error(error)}"
            ) from None

    def classes(self, settings: Any) -> tuple[str, ...]:
        """Of the test data that the configuration names."""
        dataset = settings.get("test_dataloader", {}).get("dataset", {})
        names = dataset.get("metainfo", {}).get("classes")
        if names is None:
            kind = self._mmdet.registry.DATASETS.get(dataset.get("type", ""))
            names = getattr(kind, "METAINFO", {}).get("classes")
        if not names:
            raise UserError("neither the checkpoint nor the configuration names the classes")
        return tuple(names)


@contextmanager
def _queries(module: Any) -> Iterator[list[torch.Tensor]]:
    """Collects, while a detection transformer predicts, the query of each of its detections.

    MMDetection does not tell. So its head decodes boxes once more that are numbered: of N
    queries, number k's is a point at (k + 1/2) / N of the image's width.
    """
    from mmdet.models.dense_heads import DETRHead

    found: list[torch.Tensor] = []
    head = getattr(module, "bbox_head", None)
    if not isinstance(head, DETRHead):
        yield found
        return
    decode = head.predict_by_feat

    def numbered(
        logits: Any, boxes: Any, *, batch_img_metas: Sequence[Any], rescale: bool = True
    ) -> Any:
        count = boxes.shape[-2]
        points = torch.zeros_like(boxes)
        points[..., 0] = (torch.arange(count, device=boxes.device) + 0.5) / count
        again = decode(logits, points, batch_img_metas=batch_img_metas, rescale=False)
        for one, about in zip(again, batch_img_metas, strict=True):
            shares = one.bboxes[:, 0] / about["img_shape"][1]
            found.append((shares * count).long())
        return decode(logits, boxes, batch_img_metas=batch_img_metas, rescale=rescale)

    head.predict_by_feat = numbered
    try:
        yield found
    finally:
        del head.predict_by_feat


def _without_trust(checkpoint: Checkpoint) -> str:
    """What else can be done with a file, as shortly as it can be said."""
    reason = "it carries no configuration that can be read"
    if has_configuration(checkpoint):
        try:
            mmdet_counterpart(checkpoint)
        except UserError as error:
            reason = str(error).partition("; ")[0]
        else:
            return (
                "Inspecting, cutting and converting (ablate convert --to transformers) need no "
                "such trust"
            )
    return f"Inspecting and cutting need no such trust; it cannot be converted ({reason})"


def _text(checkpoint: Checkpoint) -> str:
    meta = checkpoint.archive.metadata.get("meta")
    text = meta.get("cfg") if isinstance(meta, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{checkpoint.path} carries no configuration; give --model mmdet:CONFIG.py")
    return text


def _load(module: Any, checkpoint: Checkpoint) -> None:
    """Fills the model, strictly; errors name the first tensor at odds."""
    weights = {
        name: tensor for name, tensor in checkpoint.state_dict().items() if name not in COLORS
    }
    there = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if said := misfit.of_shapes(there, misfit.shapes_of(module)):
        raise UserError(f"{checkpoint.path}: {said}")
    missing, unexpected = module.load_state_dict(weights, strict=False)
    if said := misfit.of_names(sorted(missing), sorted(unexpected)):
        raise UserError(f"{checkpoint.path}: {said}")


def _check_classes(module: Any, classes: tuple[str, ...], checkpoint: Checkpoint) -> None:
    for name, head in module.named_modules():
        count = getattr(head, "num_classes", None)
        if name.endswith("bbox_head") and isinstance(count, int) and count != len(classes):
            raise UserError(
                f"{checkpoint.path} names {len(classes)} classes for {count} outputs of {name}"
            )


def _live_names(module: Any, checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    """Names are the same in file and model, but for what MMDetection renames on loading.

    A head that all decoder layers share has a name per layer. Files hold it once under all of
    them, or, when saved from a GPU, in copies, of which the model keeps the last: each name
    means the one tensor that the model has.
    """
    live = module.state_dict()
    return {
        name: (name,)
        for name in checkpoint.tensors
        if name in live and live[name].is_floating_point()
    }


def _opened(checkpoint: Checkpoint, request: Request) -> MMDetAdapter:
    """The detector that a configuration describes, with the weights of ``checkpoint``; the
    configuration is a file, or the text that the checkpoint carries.

    Raises ``UserError`` where it may not run or does not, MMDetection is not there, or the weights
    do not fit.
    """
    config = Path(request.place) if request.place else None
    if config:
        check_configurations(config)
    text = _text(checkpoint) if config is None else None
    if not request.trust_remote_code:
        what = f"the configuration in {checkpoint.path}, which is of MMDetection,"
        other = "" if config else ", or give --model mmdet:CONFIG.py"
        raise UserError(
            f"{config or what} is a program, which MMEngine runs; read it, then add "
            f"--trust-remote-code to run it{other}. {_without_trust(checkpoint)}"
        )
    library = MMDetection()
    settings = library.settings(config, text)
    module = library.build(settings)
    _load(module, checkpoint)
    classes = checkpoint.classes or library.classes(settings)
    _check_classes(module, classes, checkpoint)
    live, pipeline = _live_names(module, checkpoint), library.pipeline(settings)
    return MMDetAdapter(module, pipeline, classes, live, settings, request.device)


FRAMEWORK = Framework(
    _opened,
    takes="[:CONFIG.py]",
    recognizes=lambda checkpoint: {"type", "backbone"} <= (checkpoint.config or {}).keys(),
    files=lambda place: configurations(Path(place)) if place else [],
    packages=("mmdet", "mmcv"),
)
