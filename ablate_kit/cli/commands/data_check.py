"""``ablate data check``: what is in a data set, and what is wrong with it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit import text as safe
from ablate_kit.cli.dataset_options import ImageFiles
from ablate_kit.cli.early import check_recipe
from ablate_kit.cli.output import print_json, progress, say, say_lines, warn
from ablate_kit.plural import counted

if TYPE_CHECKING:
    from detector.data.checks.dataset_check import CheckedSource, CheckReport, Problem

_SHOWN = 3  # problems of a kind that are printed


def check(
    recipe: Annotated[
        Path | None, typer.Argument(help="A training recipe: both of its splits.")
    ] = None,
    *,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: data.root=VOCdevkit.")
    ] = None,
    data: ImageFiles,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all as JSON, each problem included.")
    ] = False,
) -> None:
    """Look at every image and annotation of a data set; exit code 1 if there are problems."""
    if recipe:
        check_recipe(recipe, "train", settings)
    from detector.data.checks.dataset_check import compare, examine

    sources = _sources(recipe, settings or [], data)
    for source, _ in sources:
        warn(source.notes)
    reports = []
    with progress() as bars:
        for source, own_limit in sources:
            count = min(data.limit or len(source), own_limit or len(source), len(source))
            bar = bars.add_task(source.name, total=count)
            reports.append(examine(source, count, lambda bar=bar: bars.advance(bar)))  # type: ignore[misc]
    between = compare(*reports) if len(reports) == 2 else []
    total = sum(len(report.problems) for report in reports) + len(between)
    if as_json:
        print_json(
            {
                "problems": total,
                "data_sets": [_as_json(report) for report in reports],
                "between": [asdict(problem) for problem in between],
            }
        )
    else:
        say_lines(_summary(reports))
        say_lines(f"\n{_balance(reports)}\n")
        for line in _remarks(reports):
            say(line)
        problems = [problem for report in reports for problem in report.problems] + between
        say_lines(_problems(problems) if problems else "no problems")
    if total:
        raise typer.Exit(1)


def _sources(
    recipe: Path | None, settings: list[str], data: ImageFiles
) -> "list[tuple[CheckedSource, int | None]]":
    """The data sets to look at, each with the number of images that a recipe limits it to."""
    from ablate_kit.errors import UserError
    from ablate_kit.shipped import recipe_file
    from detector.training.recipes.data_sections import FolderImages, ShapesData, ShapesImages
    from detector.training.recipes.train_recipe import load_recipe

    if recipe is not None and replace(data, limit=None).any():
        raise UserError("give one data set: a recipe, or options such as --voc with --split")
    if settings and recipe is None:
        raise UserError("--set changes a recipe; give one")
    if recipe is not None:
        parts = load_recipe(recipe_file(recipe, "train"), settings).data
        if isinstance(parts, ShapesData):
            raise UserError(f"{recipe} trains on the built-in shapes, which have no files to check")
        return [(part.source(), part.limit) for part in parts.parts()]
    found = replace(data, limit=None).given()
    if isinstance(found, FolderImages):
        raise UserError("--images alone names no annotations to check; give --annotations as well")
    assert not isinstance(found, ShapesImages)  # noqa: S101
    return [(found.source(), None)]


def _summary(reports: "list[CheckReport]") -> str:
    from ablate_kit.reports.table import Table

    rows = []
    for one in reports:
        counts = one.images, one.without_objects, one.objects, one.ignored, len(one.problems)
        rows.append((one.name, *(f"{count:,}" for count in counts)))
    header = ("data set", "images", "without objects", "objects", "to ignore", "problems")
    return Table("", header, tuple(rows), ("data set",)).text()


def _balance(reports: "list[CheckReport]") -> str:
    """Objects and images of each class; of a recipe's two splits side by side."""
    from ablate_kit.reports.table import Table

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


def _problems(problems: "list[Problem]") -> str:
    """Each kind that there are any of: how many, what it is, and the first few."""
    from detector.data.checks.dataset_check import KINDS

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


def _remarks(reports: "list[CheckReport]") -> list[str]:
    """How images are read, where that may not be what their owner expects."""
    found: dict[str, list[Path]] = {}
    for report in reports:
        for remark, paths in report.remarks.items():
            found.setdefault(remark, []).extend(paths)
    return [
        f"{remark}: {counted(len(paths), 'image')}, such as {paths[0]}"
        for remark, paths in found.items()
    ]


def _as_json(report: "CheckReport") -> dict[str, object]:
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
