"""Ablation analysis of object detectors, on checkpoints.

    import ablate_kit as ak

    model = ak.load("model.safetensors")            # or a folder; a detector with its weights
    data = ak.coco("instances.json", "images")      # or ak.voc(...), ak.yolo(...), ak.shapes()
    cuts = model.heads("decoder.layers.*.self_attn")
    result = ak.sweep(model, data, cuts, output="runs/heads")
    print(result.table())

====================  ==============================================================
what                  for
====================  ==============================================================
load, Model           a checkpoint, opened as a detector; makes ablations and copies
open_checkpoint       a checkpoint as data: names, shapes, bytes; no model is built
coco, voc, yolo       annotated images
images, shapes        photographs without labels; the built-in images
study                 which parts matter: a sweep that plans itself, and says what it found
replicate             whether that holds in other checkpoints, such as other seeds
sweep, SweepResult    many ablations in one pass over the data, with intervals
evaluate              one detector
score                 files of detections, without a model
diff                  two checkpoints
run_recipe            the sweep of a YAML recipe
Ablation              which elements of which tensors become what
wrap                  any network as a detector, for ``load(..., model="python:FILE.py:NAME")``
GradientMonitor       what learns in a training loop
UserError             what all of these raise for a mistake in what they are given
====================  ==============================================================

Names are imported when they are first used: ``import ablate_kit`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.api.evaluation import evaluate, score
    from ablate_kit.api.images import coco, images, shapes, voc, yolo
    from ablate_kit.api.model import Model, load
    from ablate_kit.api.opening import diff, open_checkpoint
    from ablate_kit.api.replications import replicate
    from ablate_kit.api.studies import study
    from ablate_kit.api.sweep_result import SweepResult
    from ablate_kit.api.sweeping import run_recipe, sweep
    from ablate_kit.api.training_loop import GradientMonitor
    from ablate_kit.errors import UserError
    from ablate_kit.models.frameworks.wrap import wrap

__version__ = "0.3.0"

_HOMES = {
    "Ablation": "ablations.ablation",
    "GradientMonitor": "api.training_loop",
    "Model": "api.model",
    "SweepResult": "api.sweep_result",
    "UserError": "errors",
    "coco": "api.images",
    "diff": "api.opening",
    "evaluate": "api.evaluation",
    "images": "api.images",
    "load": "api.model",
    "open_checkpoint": "api.opening",
    "replicate": "api.replications",
    "run_recipe": "api.sweeping",
    "score": "api.evaluation",
    "shapes": "api.images",
    "study": "api.studies",
    "sweep": "api.sweeping",
    "voc": "api.images",
    "wrap": "models.frameworks.wrap",
    "yolo": "api.images",
}

__all__ = [
    "Ablation",
    "GradientMonitor",
    "Model",
    "SweepResult",
    "UserError",
    "coco",
    "diff",
    "evaluate",
    "images",
    "load",
    "open_checkpoint",
    "replicate",
    "run_recipe",
    "score",
    "shapes",
    "study",
    "sweep",
    "voc",
    "wrap",
    "yolo",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from detector.extras import extra_of, missing

        if extra_of(error.name) is None:
            raise
        raise missing(f"ablate_kit.{name}", str(error.name), "eval") from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
