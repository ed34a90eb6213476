"""The images of a run that is finished, found again."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablate_kit.errors import UserError
from ablate_kit.models.labels.own_objects import looked_at_for
from ablate_kit.models.labels.truth import ground_truth
from ablate_kit.sweeps.provenance.data_digest import data_digest
from ablate_kit.sweeps.recipes.named_files import below
from ablate_kit.sweeps.run_folder.ledger import Ledger
from detector.data.dataset import Dataset, is_labelled, shuffled
from detector.training.recipes.data_sections import images_noted


def images_of(ledger: Ledger) -> Dataset:
    """The images of a run that is finished: those of the names that it was given, as they were
    meant then, or from here, where all was moved together.

    Raises:
        UserError: they are no longer where they were, or others.
    """
    manifest = ledger.manifest()
    if manifest.data is None:
        raise UserError("the run does not say where its images are")
    then = below(Path(manifest.folder or ""), manifest.data)
    try:
        return _images(ledger, then)
    except UserError:
        if then != manifest.data:
            with suppress(UserError):
                return _images(ledger, manifest.data)
        raise


def _images(ledger: Ledger, values: Mapping[str, Any]) -> Dataset:
    try:
        data = images_noted(values)
    except ValidationError:
        raise UserError("the run does not say where its images are in words of now") from None
    truth = replace(ledger.truth(), clusters=None)
    dataset = looked_at_for(data.dataset(), truth.classes)
    race = ledger.manifest().race
    dataset = shuffled(dataset, race.order) if race else dataset
    parts = ("images", "annotations") if is_labelled(dataset) else ("images",)
    now, then = ground_truth(dataset).to_coco(), truth.to_coco()
    if any(now[part] != then[part] for part in (*parts, "categories")):
        raise UserError("the annotations have changed since the sweep")
    if data_digest(dataset).text != ledger.inputs.get("data"):
        raise UserError("the images have changed since the sweep")
    return dataset
