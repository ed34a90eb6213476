"""``ablate schema``: what is in the files that others read and write."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from ablate_kit.cli.output import print_json


class Form(StrEnum):
    RESULTS = "results"
    SWEEP = "sweep"
    TRAIN = "train"
    PRETRAIN = "pretrain"
    RETRAIN = "retrain"


def schema(
    form: Annotated[
        Form, typer.Argument(help="results.json (eval, score, sweep, demo), or a kind of recipe.")
    ] = Form.RESULTS,
) -> None:
    """Print the JSON schema of results.json, or of a recipe for an editor to check it by."""
    print_json(schema_of(form))


def schema_of(form: Form) -> Mapping[str, Any]:
    match form:
        case Form.RESULTS:
            from ablate_kit.reports.results_schema import schema as of_results

            return of_results()
        case Form.SWEEP:
            from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe

            return SweepRecipe.model_json_schema()
        case Form.TRAIN:
            from detector.training.recipes.train_recipe import TrainRecipe

            return TrainRecipe.model_json_schema()
        case Form.PRETRAIN:
            from detector.training.recipes.pretrain_recipe import PretrainRecipe

            return PretrainRecipe.model_json_schema()
        case Form.RETRAIN:
            from ablate_kit.retraining.retrain_recipe import RetrainRecipe

            return RetrainRecipe.model_json_schema()
