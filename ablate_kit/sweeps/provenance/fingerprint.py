"""All that the results of a variant depend on, but the ablation."""

from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import PIL
import torch

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import checkpoint_digest, digest_of_names
from ablate_kit.checkpoints.hub import is_hub_id
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.metrics.evaluate import VERSION
from ablate_kit.models.inference.device import gpu_libraries
from ablate_kit.models.labels.classes import read_class_names
from ablate_kit.models.opening.framework_registry import choose
from ablate_kit.sweeps.provenance.data_digest import DataDigest
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run_folder.run_inputs import HUB, LIBRARIES
from detector.data.dataset import Dataset


def fingerprint_of(
    recipe: SweepRecipe, checkpoint: Checkpoint, dataset: Dataset, device: str, data: DataDigest
) -> dict[str, Any]:
    """The digests of a sweep's files, and all else that changes a bit."""
    clusters = recipe.evaluation.truth(dataset).clusters  # which images belong together
    return {
        "data": data.text,
        **({} if clusters is None else {"clusters": sha256(clusters.tobytes()).hexdigest()}),
        **environment_of(recipe, checkpoint, device),
    }


def environment_of(recipe: SweepRecipe, checkpoint: Checkpoint, device: str) -> dict[str, Any]:
    """The same without the images."""
    kind = torch.device(device).type
    named, limit = recipe.model.class_names, recipe.evaluation.max_detections
    chosen = choose(checkpoint, recipe.model.framework)
    hub = recipe.model.checkpoint
    return {
        # What is as it always is leaves no trace, so that runs of before can be continued.
        **({"class_names": ", ".join(read_class_names(named).names)} if named else {}),
        **({"max_detections": limit} if limit != MAX_DETECTIONS else {}),
        **({HUB: hub} if is_hub_id(hub) else {}),
        **({"fuse": True} if recipe.evaluation.fuse else {}),
        **({"gpu_libraries": gpu_libraries()} if kind == "cuda" else {}),
        "checkpoint": checkpoint_digest(checkpoint),
        "weights": checkpoint.place,
        "framework": chosen.model,
        **_libraries(chosen.framework.packages),
        "configuration": digest_of_names(chosen.framework.files(chosen.place)),
        "batch_size": recipe.evaluation.batch_size,
        "score_threshold": recipe.evaluation.score_threshold,
        "device": kind,
        # Kernels are chosen by the processor, and sums are split among threads.
        "processor": (
            torch.cuda.get_device_name(device)
            if kind == "cuda"
            else torch.backends.cpu.get_cpu_capability()
        ),
        "threads": torch.get_num_threads(),
        "metrics_version": VERSION,
        "torch_version": str(torch.__version__),
        "pillow_version": PIL.__version__,  # decoders differ in last bits
    }


def _libraries(packages: Sequence[str]) -> dict[str, str]:
    found = []
    for name in packages:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return {LIBRARIES: ", ".join(found)} if found else {}
