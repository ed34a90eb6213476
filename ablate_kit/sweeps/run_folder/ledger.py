"""The state of a sweep on disk: what it is made from, what is done, and every detection.

A run's folder:

    inputs.json            digests of the checkpoint and the data, and all that changes a bit
    truth.json             the annotations, as COCO JSON
    ledger.jsonl           a line per finished variant: its key, its ablation, its numbers
    recipe.yaml            the sweep, to be repeated with ``ablate sweep``
    about.json             model, data, date, command and versions, for the report
    study.json             the variants of the report, and the settings of its intervals
    notes.json             warnings, such as variants that had to run in full
    detections/KEY.safetensors
    partial/00003-SHARD.safetensors    detections of unfinished variants on one batch
    report/                tables, figures and the page

Everything is written under a temporary name first, so that a process killed at any moment leaves
at most one batch to be done again, and the same bytes in the end. Reading a run writes nothing: it
may be one that another process is working on. Who writes holds the folder's lock. What numbers come
of carries a digest of itself (``detector/disk/sealed.py``); the inputs are part of every key.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter

from ablate_kit import text as safe
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.factors import Factors
from ablate_kit.checkpoints.told import tell
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import FEWEST_DETECTIONS, Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.result import BASELINE, Result
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.sweeps.execution.disagreement import TOLERANCE, disagreement
from ablate_kit.sweeps.run_folder.checked_json import checked, read_json
from ablate_kit.sweeps.run_folder.manifest import Key, Manifest, NamedVariant
from ablate_kit.sweeps.run_folder.run_inputs import as_noted, check_run, inputs_in, refuse_changed
from ablate_kit.sweeps.run_folder.stored_detections import (
    UnfinishedBatches,
    read_detections,
    write,
    write_detections,
)
from ablate_kit.sweeps.scheduling.scheduler import Batches, BatchResult, Lacking, lacking
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from detector.disk import lock
from detector.disk.atomic import is_temporary, remove_temporaries
from detector.disk.lines import append_line, key_of, read_rows, whole_lines
from detector.disk.sealed import is_sealed, sealed
from detector.disk.visible import is_of_macos

_KEY: TypeAdapter[str] = TypeAdapter(Key)
_NOTES: TypeAdapter[list[str]] = TypeAdapter(list[str])
_LIMIT: TypeAdapter[int | None] = TypeAdapter(Annotated[int, Field(ge=FEWEST_DETECTIONS)] | None)
_THREADS: TypeAdapter[int | None] = TypeAdapter(Annotated[int, Field(ge=1, le=4096)] | None)

_FIRST = "inputs.json"  # of all that is written
ANOTHER_MODEL = (
    "the unmodified model finds other boxes now than when this run was begun, as by settings that "
    "its code reads: variants that came later are compared with what it found then; choose another "
    "folder"
)
_AT_ONCE = 16  # variants whose detections are gathered in one pass over the batches' files


class Ledger:
    """The folder of one run."""

    def __init__(self, folder: Path, inputs: Mapping[str, Any]) -> None:
        """Opens a run, or begins one.

        Raises ``UserError`` where the folder holds a run of other inputs, or something else.
        """
        self.folder = folder
        self.inputs = dict(inputs)
        path = folder / "inputs.json"
        if folder.exists() and not path.exists() and not _is_empty(folder):
            raise _no_sweep(folder)
        if path.exists():
            before = inputs_in(path)
            self.inputs = as_noted(before, self.inputs)
            refuse_changed(folder, before, self.inputs)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write(path, (json.dumps(self.inputs, indent=1, sort_keys=True) + "\n").encode())
        self._entries = dict(read_rows(folder / "ledger.jsonl", _entry, "a ledger"))
        self._partial = UnfinishedBatches(folder / "partial")

    @staticmethod
    def threads(folder: Path) -> int | None:
        """With how many threads the run in a folder was begun; None where there is none."""
        path = folder / "inputs.json"
        if not path.is_file():
            return None
        return checked(_THREADS, inputs_in(path).get("threads"), f'{path}: "threads"')

    @staticmethod
    def begun_in(folder: Path) -> bool:
        """Whether there is a run in a folder, of which nothing may be done yet."""
        return (folder / _FIRST).exists()

    @staticmethod
    @contextmanager
    def locked(folder: Path) -> Iterator[None]:
        """Keeps others out of a folder that is written to, and clears away what killed ones left.

        Raises ``UserError`` where another process is at work in it, or it holds something else.
        """
        begun = Ledger.begun_in(folder)
        if folder.exists() and not begun and not _is_empty(folder):
            raise _no_sweep(folder)
        with lock.locked(folder):
            for place in (folder, folder / "partial", folder / "detections"):
                if begun or _is_empty(folder):  # or it is somebody else's
                    remove_temporaries(place)
            yield

    @staticmethod
    def existing(folder: Path) -> "Ledger":
        """The run in a folder, whatever it was made from."""
        check_run(folder)
        return Ledger(folder, inputs_in(folder / "inputs.json"))

    def describe(self, recipe: str) -> None:
        """Keeps the recipe that makes the run again."""
        write(self.folder / "recipe.yaml", recipe.encode("utf-8", "surrogateescape"))

    def key(self, digest: str) -> str:
        """Of a variant: the same for what does the same to the same inputs, whatever its name."""
        return key_of(json.dumps(self.inputs, sort_keys=True), digest)

    def lacking(self, batches: int, variants: Sequence[Variant]) -> Lacking:
        """The batches that are to be done, by the variants that they lack."""
        by_key = {self.key(one.digest): one for one in variants}
        pending = {key: one for key, one in by_key.items() if key not in self._entries}
        return lacking(batches, pending, self._partial.done())

    def add(self, result: BatchResult) -> None:
        self.note(result.notes)
        if self._is_of_another_model(result):
            self.note([ANOTHER_MODEL])
        found = {self.key(digest): one for digest, one in result.found.items()}
        self._partial.add(result.batch, found)

    def _is_of_another_model(self, result: BatchResult) -> bool:
        """Whether the unmodified model finds something else than when it was finished here; of a
        run of one call, which has no inputs, it is the same."""
        known = self.inputs and self.key(UNMODIFIED.digest) in self._entries
        if result.unmodified is None or not known:
            return False
        size = self.inputs["batch_size"]
        images = range(result.batch * size, (result.batch + 1) * size)
        before = self._unmodified.rows(self._unmodified.image // size == result.batch)
        return any(
            disagreement([_of_image(result.unmodified, i)], [_of_image(before, i)]) > TOLERANCE
            for i in images
        )

    @cached_property
    def _unmodified(self) -> Detections:
        return self._detections(self.key(UNMODIFIED.digest))

    def collect(self, batches: int, variants: Sequence[Variant]) -> Iterator[Detections]:
        """All detections of each variant that is done and not yet finished."""
        keys = [self.key(one.digest) for one in variants]
        for start in range(0, len(keys), _AT_ONCE):
            yield from self._partial.variants(batches, tuple(keys[start : start + _AT_ONCE]))

    def evaluation(self, variant: Variant) -> Evaluation | None:
        """The numbers of a finished variant."""
        return self._entries.get(self.key(variant.digest))

    def finish(self, variant: Variant, evaluation: Evaluation, found: Detections) -> None:
        key = self.key(variant.digest)
        path = self.folder / "detections" / f"{key}.safetensors"
        path.parent.mkdir(exist_ok=True)
        write_detections(path, {key: found})
        row = {
            "key": key,
            "ablation": variant.ablation.to_dict() if variant.ablation else None,
            "evaluation": evaluation.to_dict(),
        }
        append_line(self.folder / "ledger.jsonl", safe.to_json(sealed(row)))
        self._entries[key] = evaluation

    def done(self, variants: Sequence[Variant], batches: Batches) -> tuple[int, int]:
        """How many of some variants are finished, and how many batches are done of the others."""
        finished = sum(self.key(one.digest) in self._entries for one in variants)
        left = {batch for those in self.lacking(len(batches), variants).values() for batch in those}
        return finished, len(batches) - len(left)

    @property
    def count(self) -> int:
        """Of how many cuts the numbers are there, the unmodified model's included."""
        return len(self._entries)

    def tidy(self) -> None:
        """Removes what the batches of finished variants took."""
        shutil.rmtree(self._partial.folder, ignore_errors=True)

    def results(self, variants: Sequence[Variant] | None = None) -> list[Result]:
        """The numbers of these variants, or of the unmodified model and those that the finished
        run is about."""
        if variants is None:
            told = self.manifest().variants
            if not all(map(is_sealed, whole_lines(self.folder / "ledger.jsonl"))):
                tell(
                    f"{self.folder} is of an earlier version, which kept no digests: whether its "
                    "numbers are still those that were measured is not known"
                )
            named: list[tuple[str, str, str, Factors]] = [
                (BASELINE, BASELINE, self.key(UNMODIFIED.digest), {}),
                *((one.name, one.kind, one.key, one.factors) for one in told),
            ]
        else:
            named = [(one.name, one.kind, self.key(one.digest), one.factors) for one in variants]
        for name, _, key, _ in named:
            if key not in self._entries:
                raise UserError(f'{self.folder} has no numbers of "{name}"; run ablate sweep again')
        return [
            Result(name, kind, self._entries[key], key, partial(self._detections, key), factors)
            for name, kind, key, factors in named
        ]

    def begin(self, truth: GroundTruth) -> GroundTruth:
        """Keeps the annotations, and returns them as they will be read again."""
        text = safe.to_json(sealed(truth.to_coco())) + "\n"
        path = self.folder / "truth.json"
        if not path.exists():
            write(path, text.encode())
        kept = self.truth()
        if not _same_objects(kept, truth):
            raise UserError(f"{path} has other objects than the annotations; choose another folder")
        return kept

    @property
    def begun(self) -> GroundTruth | None:
        return self.truth() if (self.folder / "truth.json").exists() else None

    def truth(self) -> GroundTruth:
        truth = GroundTruth.from_coco(read_json(self.folder / "truth.json"))
        path, limit = self.folder / "inputs.json", self.inputs.get("max_detections")
        most = checked(_LIMIT, limit, f'{path}: "max_detections"')
        return replace(truth, max_detections=most) if most else truth

    @cached_property
    def _truth(self) -> GroundTruth:
        return self.truth()

    def _detections(self, key: str) -> Detections:
        found = read_detections(self.folder / "detections" / f"{key}.safetensors")
        found.check_against(self._truth)
        return found

    def note(self, notes: Sequence[str]) -> None:
        """Keeps warnings for the report."""
        told = self.notes()
        new = [note for note in notes if note not in told]
        if new:
            text = safe.to_json([*told, *new], 1) + "\n"
            write(self.folder / "notes.json", text.encode())

    def notes(self) -> list[str]:
        path = self.folder / "notes.json"
        return checked(_NOTES, read_json(path), str(path)) if path.exists() else []

    def ablations(self) -> dict[str, Ablation]:
        """Those of finished variants, by key; those of other checkpoints' tensors are none."""
        rows = read_rows(
            self.folder / "ledger.jsonl", lambda row: (row["key"], row["ablation"]), "a ledger"
        )
        return {key: Ablation.from_dict(values) for key, values in rows if values}

    def close(
        self,
        ablations: Sequence[Ablation | Variant],
        statistics: Statistics,
        data: Mapping[str, Any],
        model: Mapping[str, Any] | None = None,
        looks: Looks | None = None,
        order: int | None = None,
    ) -> None:
        """Notes which variants the run is about, by the names they have now, and what its report
        is made with. ``data``: where the images are, of the recipe; ``model``: its checkpoint;
        ``looks`` and ``order``: of a race, and the seed of the order of its images."""
        named = [NamedVariant.of(one, self.key(one.digest)) for one in ablations]
        manifest = {
            **asdict(statistics),
            **({"race": {**asdict(looks), "order": order}} if looks else {}),
            "data": dict(data),
            "model": model,
            "folder": str(Path.cwd()),
            "variants": [one.model_dump() for one in named],
        }
        write(self.folder / "study.json", (json.dumps(sealed(manifest), indent=1) + "\n").encode())

    @property
    def finished(self) -> bool:
        return (self.folder / "study.json").exists()

    def check_finished(self) -> None:
        """Raises ``UserError`` for a run that is not."""
        if not self.finished:
            raise UserError(
                f"{self.folder} is not finished; run ablate sweep again, and it resumes"
            )

    def manifest(self) -> Manifest:
        """What ``close`` noted."""
        path = self.folder / "study.json"
        return checked(TypeAdapter(Manifest), read_json(path), str(path))


def _of_image(found: Detections, image: int) -> ImageDetections:
    own = found.image == image
    queries = None if found.queries is None else found.queries[own]
    return ImageDetections(found.boxes[own], found.scores[own], found.labels[own], queries)


def _same_objects(kept: GroundTruth, truth: GroundTruth) -> bool:
    """But for the last bits of boxes, which are written with sides for corners."""
    columns = ("image_ids", "image", "labels", "ignore", "boxes")
    pairs = ((getattr(kept, name), getattr(truth, name)) for name in columns)
    return all(a.shape == b.shape and np.allclose(a, b, rtol=0, atol=1e-3) for a, b in pairs)


def _entry(row: Any) -> tuple[str, Evaluation]:
    if row["ablation"]:
        Ablation.from_dict(row["ablation"])
    return _KEY.validate_python(row["key"]), Evaluation.from_dict(row["evaluation"])


def _is_empty(folder: Path) -> bool:
    """Nothing is in it but what is left where a process was killed before all else."""
    return folder.is_dir() and all(
        one.name == lock.NAME or is_temporary(one, _FIRST) or is_of_macos(one.name)
        for one in folder.iterdir()
    )


def _no_sweep(folder: Path) -> UserError:
    return UserError(f"{folder} exists and is no sweep or study; choose another folder")
