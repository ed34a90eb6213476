"""What a check of data sets found: tables, words, and all of it as JSON."""

from dataclasses import asdict
from pathlib import Path

from ablate_kit import text as safe
from ablate_kit.plural import counted
from ablate_kit.reports.table import Table
from detector.data.checks.dataset_check import KINDS, CheckReport, Problem

_SHOWN = 3  # problems of a kind that are printed


def summary(reports: list[CheckReport]) -> str:
    rows = []
    for one in reports:
        counts = one.images, one.without_objects, one.objects, one.ignored, len(one.problems)
        rows.append((one.name, *(f"{count:,}" for count in counts)))
    header = ("data set", "images", "without objects", "objects", "to ignore", "problems")
    return Table("", header, tuple(rows), ("data set",)).text()


def balance(reports: list[CheckReport]) -> str:
    """Objects and images of each class; of a recipe's two splits side by side."""
    names = ("",) if len(reports) == 1 else ("train ", "val ")
    header = ["class"]
    for name in names:
        header += [f"{name}objects", "share", f"{name}images"]
    rows = []
    for label in dict.fromkeys(label for report in reports for label in report.balance):
        row = [label]
        for report in reports:
            objects, images = report.balance.get(label, (0, 0))
            row += [f"{objects:,}", f"{objects / max(1, report.objects):.1%}", f"{images:,}"]
        rows.append(tuple(row))
    return Table("", tuple(header), tuple(rows), ("class",)).text()


def problems_by_kind(problems: list[Problem]) -> str:
    """Each kind that there are any of: how many, what it is, and the first few."""
    lines = []
    for kind, meaning in KINDS.items():
        messages = [problem.message for problem in problems if problem.kind == kind]
        if messages:
            lines.append(f"{kind}: {len(messages):,}  ({meaning})")
            lines += [f"  {message}" for message in messages[:_SHOWN]]
            if len(messages) > _SHOWN:
                lines.append(f"  and {len(messages) - _SHOWN:,} more; --json has all")
    lines.append(counted(len(problems), "problem"))
    return "\n".join(map(safe.line, lines))


def remarks(reports: list[CheckReport]) -> list[str]:
    """How images are read, where that may not be what their owner expects."""
    found: dict[str, list[Path]] = {}
    for report in reports:
        for remark, paths in report.remarks.items():
            found.setdefault(remark, []).extend(paths)
    return [
        f"{remark}: {counted(len(paths), 'image')}, such as {paths[0]}"
        for remark, paths in found.items()
    ]


def as_json(report: CheckReport) -> dict[str, object]:
    return {
        "name": report.name,
        "images": report.images,
        "without_objects": report.without_objects,
        "objects": report.objects,
        "to_ignore": report.ignored,
        "classes": {
            name: {"objects": objects, "images": images}
            for name, (objects, images) in report.balance.items()
        },
        "counts": report.counts(),
        "remarks": {remark: [str(one) for one in of] for remark, of in report.remarks.items()},
        "problems": [asdict(problem) for problem in report.problems],
    }
