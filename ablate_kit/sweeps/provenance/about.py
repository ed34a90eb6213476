"""What a run is about and how it was begun, for the head of its report: ``about.json``."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ablate_kit import text as safe
from ablate_kit.models.opening.framework_registry import packages_of
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run_folder.checked_json import keep_value, kept_value
from ablate_kit.versions import versions_here
from detector.data.dataset import Dataset, whole
from detector.training.recipes.data_sections import OneSet

FILE = "about.json"


class About(BaseModel):
    """The head of a report.

    Attributes:
        date: when the run was begun, in UTC.
        command: with which it was begun.
        versions: of the programs at work then.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    model: str
    data: str
    date: str
    command: str
    versions: dict[str, str]

    @staticmethod
    def of(recipe: SweepRecipe, dataset: Dataset, command: str, framework: str) -> "About":
        """``framework``: what runs the model, as ``--model`` names it."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        weights = f" ({recipe.model.weights})" if recipe.model.weights else ""
        model = f"{recipe.model.checkpoint}{weights}"
        return About(  # names of files may hold what no text does
            model=safe.line(model),
            data=safe.line(in_words(recipe.data, dataset)),
            date=now,
            command=safe.line(command),
            versions=versions_here(packages_of([framework])),
        )

    def keep(self, folder: Path) -> None:
        """As how the run was begun, unless that is known."""
        if not (folder / FILE).exists():
            keep_value(folder / FILE, self)


def about(folder: Path) -> About | None:
    """None of a run that does not tell, such as one of an earlier version.

    Raises ``UserError`` where the file is no such thing.
    """
    return kept_value(folder / FILE, About, "describe a run")


def in_words(data: OneSet, dataset: Dataset) -> str:
    """A data set as a reader names it, with the numbers of images that there are."""
    values = data.model_dump(mode="json", exclude_defaults=True)
    limit, drawn = values.pop("limit", None), values.pop("sample", None)
    named = ", ".join(f"{key} {value}" for key, value in values.items() if key != "kind")
    kind = {
        "coco": "COCO",
        "voc": "PASCAL VOC",
        "shapes": "built-in shapes",
        "yolo": "YOLO",
        "images": "without labels",
    }[data.kind]
    total = len(whole(dataset))
    among = min(limit or total, total)
    some = f"the first {limit}" if among < total else f"all {total}"
    first = f", {some} images" if limit else ""
    these = "them" if first else f"{among:,} images"
    lot = f", {drawn} of {these} drawn by lot" if drawn and drawn < among else ""
    return f"{kind}{': ' if named else ''}{named}{first}{lot}"
