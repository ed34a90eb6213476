"""The state of a sweep on disk: what it is made from, what is done, and every detection.

A run's folder:

    inputs.json            digests of the checkpoint and the data, and all that changes a bit
    truth.json             the annotations, as COCO JSON
    ledger.jsonl           a line per finished variant: its key, its ablation, its numbers
    study.json             the variants of the report, and the settings of its intervals
    notes.json             what did not go as planned, such as variants that had to run in full
    detections/KEY.safetensors
    partial/00003-SHARD.safetensors    detections of unfinished variants on one batch
    report/                tables, figures and the page

Everything is written under a temporary name first, so that a process killed at any moment leaves
at most one batch to be done again, and the same bytes in the end.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ablate_kit import text as safe
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation
from detector.disk.atomic import new_file

Arrays = dict[str, NDArray[Any]]
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A finished variant."""

    key: str
    ablation: Ablation | None  # None: the unmodified model
    evaluation: Evaluation

    def line(self) -> str:
        values = {
            "key": self.key,
            "ablation": self.ablation.to_dict() if self.ablation else None,
            "evaluation": self.evaluation.to_dict(),
        }
        return safe.to_json(values) + "\n"


class Ledger:
    """The folder of one run."""

    def __init__(self, folder: Path, inputs: Mapping[str, Any]) -> None:
        """Opens a run, or begins one.

        Raises ``UserError`` where the folder holds a run of other inputs, or something else.
        """
        self.folder = folder
        self.inputs = dict(inputs)
        path = folder / "inputs.json"
        if folder.exists() and not path.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} exists and is no sweep; choose another folder or remove it")
        if path.exists():
            self._refuse_changed(_read_json(path))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, (json.dumps(self.inputs, indent=1, sort_keys=True) + "\n").encode())
        self._mend()

    @staticmethod
    def threads(folder: Path) -> int | None:
        """With how many threads the run in a folder was begun; None where there is none."""
        path = folder / "inputs.json"
        return _read_json(path).get("threads") if path.is_file() else None

    @staticmethod
    def existing(folder: Path) -> "Ledger":
        """The run in a folder, whatever it was made from."""
        path = folder / "inputs.json"
        if not path.is_file():
            raise UserError(f"{folder} is no sweep: it has no inputs.json")
        return Ledger(folder, _read_json(path))

    def key(self, ablation: Ablation | None) -> str:
        """Of a variant: the same for the same ablation of the same inputs, whatever its name."""
        parts = [json.dumps(self.inputs, sort_keys=True), ablation.digest if ablation else ""]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def entries(self) -> dict[str, Entry]:
        """What is finished, by key."""
        path = self.folder / "ledger.jsonl"
        if not path.exists():
            return {}
        found = {}
        for number, line in enumerate(_lines(path), start=1):
            try:
                row = json.loads(line)
                one = Ablation.from_dict(row["ablation"]) if row["ablation"] else None
                entry = Entry(str(row["key"]), one, Evaluation.from_dict(row["evaluation"]))
            except (ValueError, KeyError, TypeError, UserError):
                raise UserError(f"{path}:{number} is not a line of a ledger") from None
            found[entry.key] = entry
        return found

    def finish(self, entry: Entry) -> None:
        with (self.folder / "ledger.jsonl").open("a", encoding="utf-8") as file:
            file.write(entry.line())
            file.flush()
            os.fsync(file.fileno())

    def write_truth(self, truth: GroundTruth) -> GroundTruth:
        """Keeps the annotations, and returns them as they will be read again."""
        text = safe.to_json(truth.to_coco()) + "\n"
        path = self.folder / "truth.json"
        if not path.exists():
            _write(path, text.encode())
        return self.truth()

    def truth(self) -> GroundTruth:
        return GroundTruth.from_coco(_read_json(self.folder / "truth.json"))

    def write_detections(self, key: str, found: Detections) -> None:
        path = self.folder / "detections" / f"{key}.safetensors"
        path.parent.mkdir(exist_ok=True)
        _write(path, safetensors.numpy.save(pack([found])))

    def detections(self, key: str) -> Detections:
        return unpack(_load(self.folder / "detections" / f"{key}.safetensors"))[0]

    def partial(self) -> "Partial":
        """The batches done of variants that are not finished."""
        return Partial(self.folder / "partial")

    def note(self, notes: Sequence[str]) -> None:
        """Keeps what did not go as planned, for the report."""
        told = self.notes()
        new = [note for note in notes if note not in told]
        if new:
            text = safe.to_json([*told, *new], 1) + "\n"
            _write(self.folder / "notes.json", text.encode())

    def notes(self) -> list[str]:
        path = self.folder / "notes.json"
        return list(_read_json(path)) if path.exists() else []

    def close(
        self, ablations: Sequence[Ablation], resamples: int, seed: int, data: Mapping[str, Any]
    ) -> None:
        """Notes which variants the run is about, by the names they have now, and what its report
        is made with. ``data``: where the images are, of the recipe."""
        variants = [{"name": one.name, "kind": one.kind, "key": self.key(one)} for one in ablations]
        study = {"resamples": resamples, "seed": seed, "data": dict(data), "variants": variants}
        _write(self.folder / "study.json", (json.dumps(study, indent=1) + "\n").encode())

    @property
    def finished(self) -> bool:
        return (self.folder / "study.json").exists()

    def study(self) -> dict[str, Any]:
        """What ``close`` noted."""
        return dict(_read_json(self.folder / "study.json"))

    def clear_partial(self) -> None:
        shutil.rmtree(self.folder / "partial", ignore_errors=True)

    def _refuse_changed(self, before: Mapping[str, Any]) -> None:
        for name in sorted({*before, *self.inputs}):
            if before.get(name) != self.inputs.get(name):
                raise UserError(
                    f"{self.folder} is a sweep of another {name.replace('_', ' ')} "
                    f"({_brief(before.get(name))}, now {_brief(self.inputs.get(name))}); "
                    "choose another folder"
                )

    def _mend(self) -> None:
        """Cuts off a last line that was being written when the process was killed."""
        path = self.folder / "ledger.jsonl"
        if path.exists():
            whole, newline, rest = path.read_bytes().rpartition(b"\n")
            if rest:
                os.truncate(path, len(whole) + len(newline))


class Partial:
    """Detections of unfinished variants, batch by batch; a file for each shard of each batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def missing(self, batches: int, keys: Keys) -> dict[Keys, list[int]]:
        """The batches that are to be done, by the keys of the variants that they lack."""
        done: dict[int, set[str]] = {}
        for path in self._files():
            done.setdefault(_batch_of(path), set()).update(_keys_of(path))
        found: dict[Keys, list[int]] = {}
        for batch in range(batches):
            lacks = tuple(key for key in keys if key not in done.get(batch, ()))
            if lacks:
                found.setdefault(lacks, []).append(batch)
        return found

    def add(self, batch: int, found: Mapping[str, Detections]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = json.dumps(list(found))
        name = f"{batch:05d}-{hashlib.sha256(keys.encode()).hexdigest()[:8]}.safetensors"
        data = safetensors.numpy.save(pack(list(found.values())), metadata={"keys": keys})
        _write(self.folder / name, data)

    def variants(self, batches: int, keys: Keys) -> Iterator[Detections]:
        """All detections of each variant."""
        parts: dict[str, dict[int, Detections]] = {key: {} for key in keys}
        for path in self._files():
            for key, found in zip(_keys_of(path), unpack(_load(path)), strict=True):
                if key in parts:
                    parts[key][_batch_of(path)] = found
        for by_batch in parts.values():
            yield Detections.concatenate([by_batch[batch] for batch in range(batches)])

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))


def _batch_of(path: Path) -> int:
    return int(path.name.split("-")[0])


def _keys_of(path: Path) -> list[str]:
    try:
        with safe_open(path, "numpy") as file:
            return list(json.loads((file.metadata() or {})["keys"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not readable: {error}") from None


def pack(found: Sequence[Detections]) -> Arrays:
    """Several sets of detections as small arrays, exactly: single precision where it loses
    nothing, the smallest type that holds a label or an image."""
    all_of = Detections.concatenate(found)
    arrays = {
        "count": np.array([len(one) for one in found], dtype=np.int64),
        "image": _small(all_of.image),
        "labels": _small(all_of.labels),
        "scores": _single(all_of.scores),
        "boxes": _single(all_of.boxes),
    }
    return arrays if all_of.queries is None else arrays | {"queries": _small(all_of.queries)}


def unpack(arrays: Arrays) -> list[Detections]:
    kinds = {"image": np.int64, "boxes": np.float64, "scores": np.float64, "labels": np.int64}
    if "queries" in arrays:
        kinds["queries"] = np.int64
    bounds = np.cumsum(arrays["count"])[:-1]
    columns = [np.split(arrays[name].astype(kind), bounds) for name, kind in kinds.items()]
    return [Detections(**dict(zip(kinds, one, strict=True))) for one in zip(*columns, strict=True)]


def _small(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _single(values: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if (single == values).all() else values.astype(np.float64)


def _load(path: Path) -> Arrays:
    try:
        return safetensors.numpy.load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not readable: {error}") from None


def _write(path: Path, data: bytes) -> None:
    with new_file(path, overwrite=True) as descriptor:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]


def _lines(path: Path) -> list[str]:
    """Only a line feed ends one: U+2028 and the like may stand in names."""
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable: {error}") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable as JSON: {error}") from None


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else safe.to_json(value)
    return text[:12] + "..." if len(text) > 40 else text
