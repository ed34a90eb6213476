"""All that the results of a variant depend on, but the ablation."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

import PIL
import torch

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive, sha256
from ablate_kit.checkpoints.hub import is_hub_id
from ablate_kit.checkpoints.told import tell
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.metrics.evaluate import VERSION
from ablate_kit.models.classes import read_class_names
from ablate_kit.models.device import gpu_libraries
from ablate_kit.models.framework_registry import choose
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run_inputs import HUB, LIBRARIES
from detector.data.dataset import Dataset

_MOMENT = 3.0  # seconds for which nobody wonders


@dataclass(frozen=True)
class DataDigest:
    """Of every image as it is stored, and every annotation; ``copies`` counts the images that are
    stored as one before them is."""

    text: str
    images: int
    copies: int

    def notes(self, cluster: str | None) -> list[str]:
        """What copies do to intervals, unless ``cluster`` tells which images belong together."""
        if not self.copies or cluster:
            return []
        return [
            f"{self.copies:,} of {self.images:,} images are the same files as others: they tell "
            "nothing more, and make intervals too narrow; leave them out, or say which belong "
            "together: --cluster (evaluation.cluster)"
        ]


def fingerprint_of(
    recipe: SweepRecipe, checkpoint: Checkpoint, dataset: Dataset, device: str, data: DataDigest
) -> dict[str, Any]:
    """The digests of a sweep's files, and all else that changes a bit."""
    return {
        "data": data.text,
        **_clusters(recipe, dataset),
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
        "configuration": _listed(chosen.framework.files(chosen.place)),
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


def _clusters(recipe: SweepRecipe, dataset: Dataset) -> dict[str, str]:
    """A digest of which images belong together, where any are said to."""
    clusters = recipe.evaluation.truth(dataset).clusters
    return {} if clusters is None else {"clusters": hashlib.sha256(clusters.tobytes()).hexdigest()}


def checkpoint_digest(checkpoint: Checkpoint) -> str:
    """Of the file, or of all files of the folder."""
    if not checkpoint.folder:
        return digest_of_archive(checkpoint.archive)
    return _listed([one for one in sorted(checkpoint.folder.iterdir()) if one.is_file()])


def _listed(files: Sequence[Path]) -> str:
    """A digest of the files' names and contents; empty where there is none."""
    if not files:
        return ""
    text = "\n".join(f"{one.name} {sha256(one)}" for one in files)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def data_digest(dataset: Dataset, workers: int = 2) -> DataDigest:
    """Of the annotations and the bytes of the images; tells of itself where it takes a while."""
    total = hashlib.sha256("\n".join(dataset.classes).encode("utf-8", "surrogatepass"))

    def one(index: int) -> tuple[bytes, bytes]:
        notes = dataset.annotations(index)
        part = hashlib.sha256(dataset.stored(index))
        image = part.digest()
        for array in (notes.boxes, notes.labels, notes.ignore, notes.areas):
            part.update(array.tobytes())
        sides = str((notes.image_id, notes.width, notes.height))
        return image, part.digest() + sides.encode()

    images, began, told = set(), monotonic(), False
    with ThreadPoolExecutor(workers) as pool:
        for done, (image, digest) in enumerate(pool.map(one, range(len(dataset)))):
            if done and not told and monotonic() - began > _MOMENT:
                told = True
                left = (monotonic() - began) * (len(dataset) - done) / done
                tell(
                    f"reading the files of {len(dataset):,} images once, to know them again: "
                    f"{done:,} are read, the others take about {left:.0f} s"
                )
            images.add(image)
            total.update(digest)
    return DataDigest(total.hexdigest(), len(dataset), len(dataset) - len(images))
