"""``ablate retrain``: arms times seeds, trained and compared."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.checkpoints.naming import name_of
from ablate_kit.cli.common_options import Device, Log, output_to, set_option, with_log
from ablate_kit.cli.early import check_recipe
from ablate_kit.cli.output import hear, say, say_lines, this_command
from ablate_kit.cli.training_display import Display
from ablate_kit.plural import counted, duration
from ablate_kit.progress_bars import progress

if TYPE_CHECKING:
    from ablate_kit.retraining.retrain_recipe import Run
    from ablate_kit.retraining.runs import RunResult


def retrain(
    recipe: Annotated[
        Path, Argument(help="A YAML file, such as recipes/retrain/modules_tiny.yaml.")
    ],
    settings: Annotated[list[str] | None, set_option("seeds=[1,2,3]")] = None,
    output: Annotated[Path | None, output_to("Folder of the study; runs/RECIPE.")] = None,
    log: Log = None,
    device: Device = "cpu",
    dry_run: Annotated[bool, Option("--dry-run", help="Print the runs and stop.")] = False,
) -> None:
    """Train the arms of an ablation study, several seeds each; finished runs are kept."""
    check_recipe(recipe, "retrain", settings)
    settings = with_log(settings, log)
    hear()
    from ablate_kit.retraining.retrain_recipe import load_retraining
    from ablate_kit.shipped import recipe_file

    recipe = recipe_file(recipe, "retrain")
    study, runs = load_retraining(recipe, settings)
    from ablate_kit.models.inference.device import check_device
    from ablate_kit.reports.logged import log_table
    from ablate_kit.retraining.other_images import over_images
    from ablate_kit.retraining.retrain_report import FILES, write_report
    from ablate_kit.retraining.run_data import RunData
    from ablate_kit.retraining.runs import finished, retrain_all
    from ablate_kit.retraining.summary import summary_table
    from detector.disk.lock import locked
    from detector.stopping import keeping
    from detector.training.distributed import refuse_several

    folder = output or Path("runs") / name_of(recipe)
    refuse_several("ablate retrain")
    check_device(device)
    done = finished(folder, runs)
    epochs = sorted({run.recipe.training.epochs for run in runs})
    say(
        f"{len(study.arms)} arms x {len(study.seeds)} seeds = {len(runs)} runs of "
        f"{' or '.join(map(str, epochs))} epochs, {len(done)} of them done -> {folder}"
    )
    if dry_run:
        for run in runs:
            say(f"  {run.name}  {run.key[:8]}{'  done' if run.name in done else ''}")
        return

    def kept() -> str:
        done = len(finished(folder, runs))
        return f"{folder} keeps {done} of {len(runs)} runs, and of the next what it has trained"

    read: dict[str, RunData] = {}
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        stack.enter_context(keeping(lambda: f"{kept()}; to resume: {this_command()}"))
        bars = stack.enter_context(progress())
        outcomes = retrain_all(
            runs,
            folder,
            device=device,
            progress=lambda run: Display(bars, first=True, title=run.name),
            tell=_Ended([run for run in runs if run.name not in done]).tell,
            read=read,
        )
        others = over_images(folder, outcomes, RunData.of(runs[0], read).truth)
        write_report(outcomes, folder, others)
        table = summary_table(outcomes, others)
        log_table(runs[0].recipe.training.log, folder, "arms", table)
    say_lines(table.text())
    say(f"written to {folder}: ledger.jsonl, {', '.join(FILES)}")


class _Ended:
    """A line for each run that is trained, with the time that those left take, by their epochs."""

    def __init__(self, ahead: "Sequence[Run]") -> None:
        self._ahead = {run.name: run.recipe.training.epochs for run in ahead}
        self._seconds, self._epochs = 0.0, 0

    def tell(self, run: "Run", outcome: "RunResult", before: bool) -> None:
        if before:
            return
        self._seconds += outcome.seconds
        self._epochs += self._ahead.pop(run.name)
        line = f"{run.name}  AP {outcome.evaluation.overall['AP']:.4f}  {outcome.seconds:.0f} s"
        if self._ahead:
            left = self._seconds / self._epochs * sum(self._ahead.values())
            line += f"; {counted(len(self._ahead), 'run')} left, about {duration(left)}"
        say(line)
