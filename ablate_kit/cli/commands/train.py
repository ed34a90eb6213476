"""``ablate train``: the hybrid detector from a recipe."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.checkpoints.naming import name_of
from ablate_kit.cli.common_options import (
    Device,
    Download,
    Log,
    Resume,
    TrainingSettings,
    output_to,
    with_log,
)
from ablate_kit.cli.early import check_recipe, check_there
from ablate_kit.cli.output import how_to_resume, say, warn
from ablate_kit.cli.training_display import Display
from ablate_kit.plural import counted
from ablate_kit.progress_bars import progress

if TYPE_CHECKING:
    from detector.training.trainer import Trainer


def train(
    recipe: Annotated[Path, Argument(help="A YAML file, such as recipes/train/voc.yaml.")],
    settings: TrainingSettings = None,
    output: Annotated[Path | None, output_to("Folder of the run; runs/RECIPE.")] = None,
    resume: Resume = False,
    init: Annotated[Path | None, Option(help="Start from the weights of this checkpoint.")] = None,
    gradients: Annotated[
        bool, Option("--gradients", help="Diagnose what learns: RUN/gradients, each epoch.")
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
    from ablate_kit.shipped import recipe_file
    from detector.training.recipes.train_recipe import INIT, load_recipe

    recipe = recipe_file(recipe, "train")
    if init and resume:
        raise UserError("--init begins a run and --resume continues one; give one of them")
    loaded = load_recipe(recipe, settings)
    if loaded.model.get("preset") != INIT:  # which a checkpoint fills in
        loaded.check_model()
    from ablate_kit.models.frameworks.hybrid_detector.hybrid_init import fill, with_network
    from ablate_kit.models.inference.device import check_device
    from ablate_kit.models.inference.training_evaluator import evaluator
    from ablate_kit.models.labels.classes import unlearned_classes
    from ablate_kit.retraining.run_data import digests_of
    from detector.data.dataset import has_objects, notes_on, sample
    from detector.stopping import keeping
    from detector.training.detection_task import detection_trainer
    from detector.training.distributed import init_process_group, local_device

    folder = output or Path("runs") / name_of(recipe)
    if loaded.model.get("preset") == INIT:
        loaded = with_network(loaded, init, folder / "recipe.yaml" if resume else None)
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
            origin, others = fill(trainer.model, classes, init)
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
                since = counted(state.epoch - state.best_epoch, "epoch")
                say(f"stopped: no better evaluation in {since}")
            if state.best_epoch:
                say(f"best weights: {best} (mAP {state.best:.4f} in epoch {state.best_epoch})")
            else:
                say(f"last weights: {best} (the validation images gave no mAP to choose the best)")


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
