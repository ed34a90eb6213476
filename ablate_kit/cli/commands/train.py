"""``ablate train``: the hybrid detector from a recipe."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.common_options import Device, Download, Log, Resume, TrainingSettings, with_log
from ablate_kit.cli.early import check_recipe, check_there
from ablate_kit.cli.output import how_to_resume, progress, say, warn
from ablate_kit.cli.training_display import Display
from ablate_kit.models.naming import name_of

if TYPE_CHECKING:
    from detector.network.model import HybridDetector
    from detector.training.recipes.train_recipe import TrainRecipe
    from detector.training.trainer import Trainer


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, such as recipes/train/voc.yaml.")],
    settings: TrainingSettings = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run; runs/RECIPE.")
    ] = None,
    resume: Resume = False,
    init: Annotated[
        Path | None, typer.Option(help="Start from the weights of this checkpoint.")
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Diagnose what learns: RUN/gradients, each epoch.")
    ] = False,
    log: Log = None,
    device: Device = "cpu",
    allow_download: Download = False,
) -> None:
    """Train the hybrid detector and keep the best checkpoint."""
    check_recipe(recipe, "train", settings)
    check_there(init)
    settings = with_log(settings, log)
    from ablate_kit.errors import UserError
    from ablate_kit.models.classes import unlearned_classes
    from ablate_kit.models.device import check_device
    from ablate_kit.models.training_evaluator import evaluator
    from ablate_kit.retraining.run_data import digests_of
    from ablate_kit.shipped import recipe_file
    from detector.data.dataset import has_objects, notes_on, sample
    from detector.stopping import keeping
    from detector.training.detection_task import detection_trainer
    from detector.training.distributed import init_process_group, local_device
    from detector.training.recipes.train_recipe import INIT, load_recipe

    recipe = recipe_file(recipe, "train")
    if init and resume:
        raise UserError("--init begins a run and --resume continues one; give one of them")
    loaded = load_recipe(recipe, settings)
    folder = output or Path("runs") / name_of(recipe)
    if loaded.model.get("preset") == INIT:
        loaded = _with_network(loaded, init, folder / "recipe.yaml" if resume else None)
    own_device = local_device(device)
    check_device(own_device)
    training, validation = loaded.data.datasets()
    classes = training.classes
    unlearned = unlearned_classes(classes, validation.classes)
    digests = digests_of(training, validation)
    with init_process_group(own_device) as distributed:
        count, seed = loaded.training.evaluate_train, loaded.training.seed
        learned = sample(training, count, seed) if count else None
        trainer = detection_trainer(
            loaded,
            training,
            folder,
            evaluate=evaluator(validation, classes, own_device),
            evaluate_train=evaluator(learned, classes, own_device) if learned else None,
            device=own_device,
            distributed=distributed,
            data=digests,
        )
        others: list[str] = []
        if init:
            origin, others = _fill(trainer.model, classes, init)
            trainer.set_initial_weights(origin)
        parameters = sum(p.numel() for p in trainer.model.parameters())
        if distributed.is_main:
            warn(dict.fromkeys((*notes_on(training), *notes_on(validation), *unlearned, *others)))
            if not has_objects(validation):
                problem = f"none of the {len(validation):,} validation images has an object to find"
                warn([f"{problem}: no mAP will tell which weights are best"])
            say(
                f"{len(training)} training and {len(validation)} validation images, "
                f"{len(classes)} classes, {parameters:,} parameters -> {folder}"
            )
        with progress() as bars, ExitStack() as watching:
            display = Display(bars, first=distributed.is_main)
            if gradients and distributed.is_main:
                display.after_epoch = watching.enter_context(_watched(trainer))
            with keeping(lambda: how_to_resume(folder, trainer.kept)):
                best = trainer.run(display, resume=resume)
        if distributed.is_main:
            state = trainer.state
            if state.epoch < loaded.training.epochs:
                say(f"stopped: no better evaluation in {state.epoch - state.best_epoch} epochs")
            if state.best_epoch:
                say(f"best weights: {best} (mAP {state.best:.4f} in epoch {state.best_epoch})")
            else:
                say(f"last weights: {best} (the validation images gave no mAP to choose the best)")


def _with_network(recipe: "TrainRecipe", init: Path | None, resumed: Path | None) -> "TrainRecipe":
    """The recipe with a checkpoint's network in place of a preset, or that of the run that is
    resumed, as its own recipe has it."""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.errors import UserError
    from ablate_kit.models.frameworks.hybrid_adapter import config_and_names, is_hybrid
    from detector.training.recipes.train_recipe import load_recipe

    if resumed:
        return recipe.model_copy(update={"model": load_recipe(resumed).model})
    if init is None:
        return recipe  # which says what it lacks
    with open_checkpoint(init) as checkpoint:
        if not is_hybrid(checkpoint):
            raise UserError(f"{checkpoint} is not a hybrid detector")
        config = config_and_names(checkpoint)[0].to_dict()
    own = {name: value for name, value in recipe.model.items() if name != "preset"}
    return recipe.model_copy(update={"model": config | own})


@contextmanager
def _watched(trainer: "Trainer") -> Iterator[Callable[[], None]]:
    """Monitors the trainer's steps; gives what writes the diagnosis so far."""
    from ablate_kit.gradients.monitor import GradientMonitor
    from ablate_kit.reports.gradient_reports.gradients_folder import report_of, write_gradients

    monitor = GradientMonitor(trainer.model, trainer.optimizer)
    trainer.before_clipping = monitor.observe
    folder = trainer.files.folder / "gradients"
    with monitor:
        yield lambda: write_gradients(folder, report_of(monitor, {"model": str(folder.parent)}))


def _fill(
    model: "HybridDetector", classes: Sequence[str], path: Path
) -> tuple[dict[str, str], list[str]]:
    """Copies the weights of a checkpoint of the same config; says which file it was, and a note
    where its classes are not these."""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.checkpoints.digest import digest_of_archive
    from ablate_kit.errors import UserError
    from ablate_kit.models.classes import other_classes
    from ablate_kit.models.frameworks.hybrid_adapter import HybridAdapter

    with open_checkpoint(path) as checkpoint:
        source = HybridAdapter.open(checkpoint).module
        sha256, place = digest_of_archive(checkpoint.archive), checkpoint.place
        notes = other_classes(checkpoint.classes or classes, classes)
    wanted, found = model.config.to_dict(), source.config.to_dict()
    for name, value in wanted.items():
        if found[name] != value:
            raise UserError(
                f"{path} has {name} {found[name]!r} and the recipe {value!r}; change the recipe by "
                f"--set model.{name}=..."
            )
    model.load_state_dict(source.state_dict())
    return {"path": str(path), "sha256": sha256, "weights": place}, notes
