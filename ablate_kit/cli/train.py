"""``ablate train``: the hybrid detector from a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.output import progress, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from detector.data.dataset import Dataset
    from detector.network.model import HybridDetector
    from detector.training.trainer import Evaluate


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, such as recipes/train/voc.yaml.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: training.lr=0.001.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run; runs/RECIPE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an earlier run.")] = False,
    init: Annotated[
        Path | None, typer.Option(help="Start from the weights of this checkpoint.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Train the hybrid detector and keep the best checkpoint."""
    from ablate_kit.errors import UserError
    from ablate_kit.models.device import check_device
    from detector.data.dataset import sample
    from detector.training.processes import joined
    from detector.training.recipe import load_recipe
    from detector.training.trainer import Trainer

    if init and resume:
        raise UserError("--init begins a run and --resume goes on with one; give one of them")
    loaded = load_recipe(recipe, settings or [])
    check_device(device)
    training, validation = loaded.data.datasets()
    folder = output or Path("runs") / recipe.stem
    with joined(device) as (processes, own_device):
        count, seed = loaded.training.evaluate_train, loaded.training.seed
        learned = sample(training, count, seed) if count else None
        trainer = Trainer(
            loaded,
            training,
            folder,
            evaluate=_evaluator(validation, own_device),
            evaluate_train=_evaluator(learned, own_device) if learned else None,
            device=own_device,
            processes=processes,
        )
        if init:
            _fill(trainer.model, init)
        parameters = sum(p.numel() for p in trainer.model.parameters())
        if processes.first:
            say(
                f"{len(training)} training and {len(validation)} validation images, "
                f"{len(training.classes)} classes, {parameters:,} parameters -> {folder}"
            )
        with progress() as bars:
            best = trainer.run(_Display(bars, first=processes.first), resume=resume)
        if processes.first:
            state = trainer.state
            if state.epoch < loaded.training.epochs:
                say(f"stopped: no better evaluation in {state.epoch - state.best_epoch} epochs")
            say(f"best weights: {best} (mAP {state.best:.4f} in epoch {state.best_epoch})")


def _fill(model: "HybridDetector", path: Path) -> None:
    """Copies the weights of a checkpoint that was made with the same config."""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.errors import UserError
    from ablate_kit.models.hybrid import HybridAdapter

    with open_checkpoint(path) as checkpoint:
        source = HybridAdapter.open(checkpoint).module
    wanted, found = model.config.to_dict(), source.config.to_dict()
    for name, value in wanted.items():
        if found[name] != value:
            raise UserError(
                f"{path} has {name} {found[name]!r} and the recipe {value!r}; change the recipe by "
                f"--set model.{name}=..."
            )
    model.load_state_dict(source.state_dict())


def _evaluator(dataset: "Dataset", device: str) -> "Evaluate":
    from ablate_kit.metrics.average_precision import average_precision
    from ablate_kit.models.adapter import detect_all, ground_truth
    from ablate_kit.models.hybrid import HybridAdapter

    truth = ground_truth(dataset)

    def evaluate(model: "HybridDetector") -> dict[str, float]:
        adapter = HybridAdapter(model, dataset.classes, {}, device)
        numbers = average_precision(truth, detect_all(adapter, dataset)).overall
        return {"mAP_50_95": numbers["AP"], "mAP_50": numbers["AP50"]}

    return evaluate


class _Display:
    """One bar for the epoch under way, and a line for each that is done."""

    def __init__(self, bars: "Bars", *, first: bool) -> None:
        self.bars = bars
        self.first = first
        self.task = bars.add_task("", total=None, visible=first)
        self.epoch = ""

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        self.epoch = f"epoch {epoch}/{epochs}"
        self.bars.reset(self.task, total=batches, completed=done, description=self.epoch)

    def batch(self, look: Mapping[str, float] | None) -> None:
        self.bars.advance(self.task)
        if look is None:
            return
        parts = [
            f"loss {look['loss/loss']:.3f}",
            f"lr {look['lr']:.2g}",
            f"norm {look['norm/before clipping']:.3g}",
            f"{look['images_per_second']:.1f} images/s",
            f"{look['memory_gb']:.1f} GB",
        ]
        self.bars.update(self.task, description="  ".join((self.epoch, *parts)))

    def finish(self, record: Mapping[str, float | None]) -> None:
        if not self.first:
            return
        line = f"{self.epoch}  loss {record['train_loss']:.3f}"
        for name, label in (("val", ""), ("val_ema", "average "), ("train", "train ")):
            if record.get(f"{name}_mAP_50_95") is not None:
                line += f"  {label}mAP {record[f'{name}_mAP_50_95']:.4f}"
                line += f"  mAP50 {record[f'{name}_mAP_50']:.4f}"
        wait = record["data_wait"] or 0.0
        say(f"{line}  {record['train_seconds']:.1f} s, {wait:.0%} waiting for data")
