"""The images of a run that is finished, found again."""

from dataclasses import replace

from pydantic import ValidationError

from ablate_kit.errors import UserError
from ablate_kit.models.own_objects import looked_at_for
from ablate_kit.models.truth import ground_truth
from ablate_kit.sweeps.fingerprint import data_digest
from ablate_kit.sweeps.ledger import Ledger
from detector.data.dataset import Dataset, is_labelled, shuffled
from detector.training.recipes.data_sections import images_noted


def images_of(ledger: Ledger) -> Dataset:
    """The images of a run that is finished.

    Raises:
        UserError: they are no longer where they were, or others.
    """
    manifest = ledger.manifest().data
    if manifest is None:
        raise UserError("the run does not say where its images are")
    try:
        data = images_noted(manifest)
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
