"""``ablate pretrain``: backbone and neck of the hybrid detector as a classifier, from a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from typer import Argument

from ablate_kit.checkpoints.naming import name_of
from ablate_kit.cli.common_options import Device, Log, Resume, TrainingSettings, output_to, with_log
from ablate_kit.cli.early import check_recipe
from ablate_kit.cli.output import how_to_resume, say
from ablate_kit.cli.training_display import Display
from ablate_kit.progress_bars import progress


def pretrain(
    recipe: Annotated[
        Path, Argument(help="A YAML file, such as recipes/pretrain/shapes_tiny.yaml.")
    ],
    settings: TrainingSettings = None,
    output: Annotated[Path | None, output_to("Folder of the run; runs/pretrain/RECIPE.")] = None,
    resume: Resume = False,
    log: Log = None,
    device: Device = "cpu",
) -> None:
    """Pretrain backbone and neck on images with one class each, for ablate graft."""
    check_recipe(recipe, "pretrain", settings)
    settings = with_log(settings, log)
    from ablate_kit.shipped import recipe_file
    from detector.training.recipes.pretrain_recipe import load_pretrain_recipe

    recipe = recipe_file(recipe, "pretrain")
    loaded = load_pretrain_recipe(recipe, settings)
    loaded.check_model()
    from ablate_kit.models.inference.device import check_device
    from detector.stopping import keeping
    from detector.training.classification_task import classification_trainer
    from detector.training.distributed import init_process_group, local_device

    own_device = local_device(device)
    check_device(own_device)
    folder = output or Path("runs/pretrain") / name_of(recipe)
    training, validation = loaded.data.splits()
    with init_process_group(own_device) as distributed:
        trainer = classification_trainer(
            loaded, training, validation, folder, device=own_device, distributed=distributed
        )
        parameters = sum(p.numel() for p in trainer.model.parameters())
        if distributed.is_main:
            say(
                f"{len(training)} training and {len(validation)} validation images, "
                f"{len(training.classes)} classes, {parameters:,} parameters -> {folder}"
            )
        with progress() as bars, keeping(lambda: how_to_resume(folder, trainer.kept)):
            display = Display(bars, first=distributed.is_main, result=_result)
            exported = trainer.run(display, resume=resume)
        if distributed.is_main:
            say(f"to graft: {exported} (accuracy {trainer.state.best:.2f} %)")


def _result(record: Mapping[str, float | None]) -> str:
    accuracy, average = record["val_accuracy"], record.get("val_accuracy_ema")
    if accuracy is None:
        return ""
    line = f"  accuracy {accuracy:.2f} %"
    return line if average is None else f"{line}, of the average {average:.2f} %"
