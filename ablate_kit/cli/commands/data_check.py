"""``ablate data check``: what is in a data set, and what is wrong with it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from ablate_kit.cli.common_options import set_option
from ablate_kit.cli.dataset_options import ImageFiles
from ablate_kit.cli.early import check_recipe
from ablate_kit.cli.output import print_json, say, say_lines, warn
from ablate_kit.progress_bars import progress

if TYPE_CHECKING:
    from detector.data.checks.dataset_check import CheckedSource


def check(
    recipe: Annotated[Path | None, Argument(help="A training recipe: both of its splits.")] = None,
    *,
    settings: Annotated[list[str] | None, set_option("data.root=VOCdevkit")] = None,
    data: ImageFiles,
    as_json: Annotated[
        bool, Option("--json", help="Print all as JSON, each problem included.")
    ] = False,
) -> None:
    """Look at every image and annotation of a data set; exit code 1 if there are problems."""
    if recipe:
        check_recipe(recipe, "train", settings)
    from ablate_kit.reports import data_check_report as printed
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
                "data_sets": [printed.as_json(report) for report in reports],
                "between": [asdict(problem) for problem in between],
            }
        )
    else:
        say_lines(printed.summary(reports))
        say_lines(f"\n{printed.balance(reports)}\n")
        for line in printed.remarks(reports):
            say(line)
        problems = [problem for report in reports for problem in report.problems] + between
        say_lines(printed.problems_by_kind(problems) if problems else "no problems")
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
