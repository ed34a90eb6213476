"""``ablate pretrain``: backbone and neck of the hybrid detector as a classifier, from a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.naming import name_of
from ablate_kit.cli.output import how_to_go_on, progress, say, say_where_it_goes_on

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


def pretrain(
    recipe: Annotated[
        Path, typer.Argument(help="A YAML file, such as recipes/pretrain/shapes_tiny.yaml.")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: training.lr=0.001.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run; runs/pretrain/RECIPE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an earlier run.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Pretrain backbone and neck on images with one class each, for ablate graft."""
    from ablate_kit.models.device import check_device
    from detector.stopping import keeping
    from detector.training.distributed import refuse_several
    from detector.training.pretrain import Pretrainer
    from detector.training.pretrain_recipe import load_pretrain_recipe

    loaded = load_pretrain_recipe(recipe, settings or [])
    refuse_several("ablate pretrain")
    check_device(device)
    folder = output or Path("runs/pretrain") / name_of(recipe)
    training, validation = loaded.data.splits()
    pretrainer = Pretrainer(loaded, training, validation, folder, device=device)
    parameters = sum(p.numel() for p in pretrainer.model.parameters())
    say(
        f"{len(training)} training and {len(validation)} validation images, "
        f"{len(training.classes)} classes, {parameters:,} parameters -> {folder}"
    )
    with progress() as bars, keeping(lambda: how_to_go_on(folder, pretrainer.kept)):
        exported = pretrainer.run(_Display(bars), resume=resume)
    say(f"to graft: {exported} (accuracy {pretrainer.state.best:.2f} %)")


class _Display:
    """One bar for the epoch under way, and a line for each that is done."""

    def __init__(self, bars: "Bars") -> None:
        self.bars = bars
        self.task = bars.add_task("", total=None)
        self.epoch = ""

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        if not self.epoch:
            say_where_it_goes_on("", epoch, epochs, batches, done)
        self.epoch = f"epoch {epoch}/{epochs}"
        self.bars.reset(self.task, total=batches, completed=done, description=self.epoch)

    def batch(self, loss: float | None) -> None:
        self.bars.advance(self.task)
        if loss is not None:
            self.bars.update(self.task, description=f"{self.epoch}  loss {loss:.3f}")

    def finish(self, record: Mapping[str, float | None]) -> None:
        line = (
            f"{self.epoch}  loss {record['train_loss']:.3f}  "
            f"accuracy {record['val_accuracy']:.2f} %"
        )
        if "val_accuracy_ema" in record:
            line += f", of the average {record['val_accuracy_ema']:.2f} %"
        say(f"{line}  {record['train_seconds']:.1f} s")
