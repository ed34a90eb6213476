"""What a sweep or a study came to, for Python."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.api.images import Images
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.plural import counted
from ablate_kit.reports.answer import answer
from ablate_kit.sweeps.run_folder.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SweepResult:
    """The unmodified model and its ablations, with every change against the former.

    Attributes:
        results: of the unmodified model, then of each ablation.
        changes: for each ablation the change of each metric; empty without resamples.
        truth: what detections were compared with.
        notes: warnings, in words.
        folder: of the run, where it was given one.
        sentences: what a study says of it; none of a sweep.
    """

    results: list[Result]
    changes: Sequence[dict[str, Change]]
    truth: GroundTruth
    notes: list[str]
    folder: Path | None = None
    images: Images | None = None
    sentences: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        """The answer, not thousands of detections."""
        cuts, images = counted(len(self.results) - 1, "ablation"), len(self.truth.image_ids)
        told = answer(self.results, self.changes)
        on = f"SweepResult: {cuts} on {counted(images, 'image')}"
        return f"<{on}{f': {told}' if told else ''}; .table() has the numbers>"

    def table(self) -> "pd.DataFrame":
        """A row for each variant, by name: ``kind``, and of each metric its value, its change
        against the unmodified model and the ends of the change's interval (``AP``, ``AP_change``,
        ``AP_low``, ``AP_high`` ...) and its adjusted p value; and the ``verdict`` on AP. Shares of
        1; NaN where undefined. On images without labels all are against the unmodified model's own
        boxes, with ``matched_iou``, ``class_flips``, ``lost_boxes`` and ``new_boxes`` on top."""
        import pandas as pd

        rows = []
        for i, one in enumerate(self.results):
            row: dict[str, object] = {"kind": one.kind}
            changed = self.changes[i - 1] if self.changes and i else {}
            fidelity = [m.key for m in MEASURES if m.key in one.evaluation.overall]
            for key in (*KEYS, *fidelity):
                row[key] = one.evaluation.overall[key]
                if changed:
                    values = changed[key].to_dict()
                    for part in ("change", "low", "high", "p_adjusted"):
                        row[f"{key}_{part}"] = values[part]
            if changed:
                row["verdict"] = changed["AP"].to_dict()["verdict"]
            rows.append(row)
        frame = pd.DataFrame(rows, index=[one.name for one in self.results])
        numbers = [name for name in frame.columns if name not in ("kind", "verdict")]
        return frame.astype(dict.fromkeys(numbers, "float64"))

    def report(self) -> Path:
        """Writes the report of a run that was given a folder; returns the path of its page.

        Raises:
            UserError: the sweep has no folder: give ``output``.
        """
        from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report

        if self.folder is None:
            raise UserError("a sweep without output keeps nothing to report on: give output=FOLDER")
        with Ledger.locked(self.folder):
            dataset = self.images.dataset if self.images else None
            write_sweep_report(Ledger.existing(self.folder), dataset)
        return self.folder / "report" / "report.html"
