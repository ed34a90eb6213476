"""The file that holds every number of a comparison: ``results.json``, its parts and its schema.

``FORMAT_VERSION`` is raised when a part changes its name or its meaning, not when one is added.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from ablate_kit import text as safe
from ablate_kit.metrics.evaluate import VERSION
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import NOTHING, Comparison
from ablate_kit.reports.answer import answer
from ablate_kit.versions import versions_here

FORMAT = "ablate results"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Source:
    """A file or folder that was read."""

    role: str  # checkpoint, detections, annotations or recipe
    path: str
    sha256: str | None = None  # None of what can be read only once


@dataclass(frozen=True)
class Origin:
    """What results are of."""

    command: str | None = None  # as it was given; None from Python
    model: str | None = None  # the framework that ran the network; None of files of detections
    sources: Sequence[Source] = ()  # the files that it was read from
    # Where the images are, with the keys of a recipe.
    data: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None  # in UTC, as ISO 8601; None: now
    # Of the programs that made the detections; None: those at work now.
    versions: Mapping[str, str] | None = None


UNKNOWN = Origin()


def results_document(
    results: Sequence[Result], found: Comparison = NOTHING, origin: Origin = UNKNOWN
) -> dict[str, Any]:
    """The file's content: plain values."""
    numbers: dict[str, dict[str, Any]] = {
        one.name: {
            "kind": one.kind,
            "factors": dict(one.factors),
            **one.evaluation.to_dict(),
            "changes": None,
        }
        for one in results
    }
    for one, change in zip(results[1:], found.changes, strict=False):
        numbers[one.name]["changes"] = {key: value.to_dict() for key, value in change.items()}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "run": {
            "command": origin.command,
            "date": origin.date or _now(),
            "versions": {**(origin.versions or versions_here()), "metrics": str(VERSION)},
            "model": origin.model,
            "sources": [asdict(one) for one in origin.sources],
            "data": dict(origin.data),
            "images": results[0].evaluation.counts["images"],
        },
        "statistics": asdict(found.statistics) if found.changes else None,
        "baseline": results[0].name,
        "answer": answer(results, found.changes) or None,
        "variants": numbers,
    }


def results_text(document: Mapping[str, Any]) -> str:
    return safe.to_json(document, 1) + "\n"


def timeless(text: bytes) -> bytes:
    """The file without its command and its date: the same for the same results."""
    document = json.loads(text)
    document["run"] |= {"command": None, "date": None}
    return results_text(document).encode()


def _now() -> str:
    """In UTC; SOURCE_DATE_EPOCH says when, where files are to be the same again."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(given), UTC) if given.isdecimal() else datetime.now(UTC)
    return now.isoformat(timespec="seconds")
