"""``ablate schema``: what is in the files that others read and write."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from typer import Argument

from ablate_kit.cli.output import print_json

Form = Literal["results", "sweep", "train", "pretrain", "retrain"]


def schema(
    form: Annotated[
        Form, Argument(help="results.json (eval, score, sweep, demo), or a kind of recipe.")
    ] = "results",
) -> None:
    """Print the JSON schema of results.json, or of a recipe for an editor to check it by."""
    print_json(schema_of(form))


def schema_of(form: Form) -> Mapping[str, Any]:
    match form:
        case "results":
            from ablate_kit.reports.results_schema import schema as of_results

            return of_results()
        case "sweep":
            from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe

            return SweepRecipe.model_json_schema()
        case "train":
            from detector.training.recipes.train_recipe import TrainRecipe

            return TrainRecipe.model_json_schema()
        case "pretrain":
            from detector.training.recipes.pretrain_recipe import PretrainRecipe

            return PretrainRecipe.model_json_schema()
        case "retrain":
            from ablate_kit.retraining.retrain_recipe import RetrainRecipe

            return RetrainRecipe.model_json_schema()
