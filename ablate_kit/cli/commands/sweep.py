"""``ablate sweep``: many ablations of one model, from a recipe."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from typer import Argument, Option

from ablate_kit.checkpoints.hub import is_hub_id
from ablate_kit.checkpoints.naming import name_of
from ablate_kit.cli.common_options import Log, PlanOnly, loggers_of, output_to, set_option
from ablate_kit.cli.copy_options import warn_of_twins
from ablate_kit.cli.dataset_options import DataOptions
from ablate_kit.cli.early import check_recipe, check_there
from ablate_kit.cli.execution_options import ExecutionOptions
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import (
    reporting,
    resumable,
    say,
    say_lines,
    say_where,
    this_command,
    warn,
)
from ablate_kit.cli.smaller_command import smaller_command
from ablate_kit.cli.statistics_options import OWN_SCORE, Adjusted, Cluster, Margin, Top
from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from ablate_kit.sweeps.shown_progress import watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.checkpoints import Checkpoint
    from ablate_kit.sweeps.open_sweep import OpenSweep
    from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
    from ablate_kit.sweeps.run_folder.ledger import Ledger
    from detector.training.recipes.recipe_file import Override

_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is to be otherwise than the recipe says."""

    settings: Annotated[list[str] | None, set_option("data.limit=50")] = None
    margin: Margin = None
    adjust: Adjusted = None
    cluster: Cluster = None
    score_threshold: Annotated[
        float | None, Option(help=f"{OWN_SCORE}; 0.5 by default.", min=0, max=1)
    ] = None
    batch_size: Annotated[int | None, Option(help="8 by default.", min=1)] = None
    max_detections: Annotated[
        int | None,
        Option(
            help="Detections of an image that are kept, and of a class in it that count; 100 by "
            "default.",
            min=11,
        ),
    ] = None

    def overrides(self, framework: str | None, *, fuse: bool) -> "list[str | Override]":
        """These, and those of other options that a recipe may set as well."""
        from detector.training.recipes.recipe_file import Override

        changed = (
            ("model.framework", framework, "--model"),
            ("evaluation.margin", self.margin, "--margin"),
            ("evaluation.adjust", self.adjust, "--adjust"),
            ("evaluation.cluster", self.cluster, "--cluster"),
            ("evaluation.score_threshold", self.score_threshold, "--score-threshold"),
            ("evaluation.batch_size", self.batch_size, "--batch-size"),
            ("evaluation.max_detections", self.max_detections, "--max-detections"),
            ("evaluation.fuse", fuse or None, "--fuse"),
        )
        chosen = [Override(key, value, name) for key, value, name in changed if value is not None]
        return [*(self.settings or []), *chosen]


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """What is cut of a checkpoint, where no recipe says it."""

    PANEL: ClassVar[str] = "What to cut, of a checkpoint"

    heads: Annotated[
        list[str] | None,
        Option(
            help="Each attention head: all, or those of the modules of a pattern; may be repeated."
        ),
    ] = None
    layers: Annotated[
        list[str] | None,
        Option(help="A part removed from more and more layers: all, or decoder.layers.*.ffn."),
    ] = None
    modules: Annotated[
        list[str] | None, Option(help="Each module set to zero: all, or those of a pattern.")
    ] = None

    @property
    def asked(self) -> tuple[list[str], list[str], list[str]]:
        return self.heads or [], self.layers or [], self.modules or []

    def any(self) -> bool:
        return any(self.asked)


def sweep(
    source: Annotated[
        Path,
        Argument(
            metavar="RECIPE|CHECKPOINT",
            help="A YAML file (docs/sweep.md), or a checkpoint with --heads, --layers, --modules.",
        ),
    ],
    output: Annotated[Path | None, output_to("Folder; runs/RECIPE by default.")] = None,
    *,
    changes: Changes,
    top: Top = None,
    race: Annotated[
        bool, Option("--race", help="Stop each variant when it is decided by the margin.")
    ] = False,
    dry_run: PlanOnly = False,
    write: Annotated[
        Path | None, Option(help="Also write a changed copy of each variant into this folder.")
    ] = None,
    execution: ExecutionOptions,
    log: Log = None,
    device: Annotated[
        str, Option(help="cpu, cuda, cuda:1 ...; several (cuda:0,cuda:1) get a process each.")
    ] = "cpu",
    ray: Annotated[str, Option(help="Run on Ray: the address of a running cluster, or auto.")] = "",
    cuts: Cuts,
    data: DataOptions,
    model: ModelOptions,
) -> None:
    """Evaluate many ablations in one pass over the data; continues where it was stopped.

    From a recipe, or of a checkpoint: ablate sweep model.pth --heads all --shapes
    """
    _check(source, cuts.any(), data.any() or bool(model.class_names or model.weights))
    overrides = changes.overrides(model.model, fuse=execution.fuse)
    if cuts.any():
        check_there(source)
        data.given()  # or it says what is missing
    else:
        check_recipe(source, "sweep", overrides)
    loggers = loggers_of(log)
    from ablate_kit.sweeps.recipes.sweep_recipe import RaceSection, load_sweep

    given = None if cuts.any() else load_sweep(source, overrides)
    from ablate_kit.reports.logged import log_sweep
    from ablate_kit.reports.sweep_reports.plan_text import looked, searched
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
    from ablate_kit.studies.common import common_recipe
    from ablate_kit.sweeps.backends.placement import Placement
    from ablate_kit.sweeps.open_sweep import open_sweep
    from ablate_kit.sweeps.run_folder.ledger import Ledger
    from ablate_kit.sweeps.run_sweep import run_sweep
    from ablate_kit.sweeps.sweep_folder import begin, done
    from detector.stopping import keeping

    trusted = model.trust_remote_code
    placement = Placement(tuple(device.split(",")), ray, trusted)
    folder = output or Path("runs") / name_of(source)
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(resumable(folder))
        section = given.model if given else model.section(source)
        section = stack.enter_context(
            section.runnable(None if dry_run else folder, trusted=trusted)
        )
        if given:
            recipe = given.model_copy(update={"model": section})
        else:
            recipe = common_recipe(
                section, data.given(), *cuts.asked, overrides=overrides, trust_remote_code=trusted
            )
        if race and recipe.race is None:
            recipe = recipe.model_copy(update={"race": RaceSection()})
        options = execution.run_options(fuse=recipe.evaluation.fuse)
        opened = stack.enter_context(
            open_sweep(recipe, placement, threads=execution.threads or Ledger.threads(folder))
        )
        warn(opened.notes)
        if write and recipe.screen:
            raise UserError("--write writes every variant, and screen evaluates some; to write "
                            "them, leave screen out")  # fmt: skip
        if write and opened.ablations:
            _write(opened.checkpoint, opened.ablations, write, dry_run)
        if dry_run:
            _say_plan(opened, options.memory)
            return
        ledger = begin(opened, folder, this_command(), options.workers)
        _say_begun(opened, ledger, of_checkpoint=cuts.any())
        resume = f"to resume: {this_command()}"
        stack.enter_context(keeping(lambda: f"{folder} keeps {done(opened, ledger)[1]}; {resume}"))
        with watched(opened.batches, lambda look: say(looked(look))) as display:
            outcome = run_sweep(opened, ledger, options, display)
        if outcome.searches:
            say_lines(searched(outcome.searches))
        if write and outcome.removed:
            _write(opened.checkpoint, outcome.removed, write, dry_run)
        warn(outcome.notes)
        with reporting():
            report = write_sweep_report(ledger, opened.dataset, top=top)
        log_sweep(loggers, folder)
        say_lines(report.table.text())
        _say_screened(ledger, recipe)
        with suppress(UserError):  # nothing free can be taken out
            if smaller := smaller_command(opened, folder, report.compared, trusted=trusted):
                say(smaller)
        say_where(folder)


def _say_begun(opened: "OpenSweep", ledger: "Ledger", *, of_checkpoint: bool) -> None:
    """What is ahead, and what is done already."""
    from ablate_kit.sweeps.estimates.sweep_size import size_of
    from ablate_kit.sweeps.run_folder.screened import screened
    from ablate_kit.sweeps.sweep_folder import done

    folder = ledger.folder
    if screened(folder) is None:
        _say_screening(opened)
    say(f"{size_of(opened).told('variant')} on {counted(len(opened.dataset), 'image')}: {folder}")
    begun, told = done(opened, ledger)
    if begun:
        say(f"resuming: {told} are done")
    if of_checkpoint:
        say(f"recipe: {folder / 'recipe.yaml'}")


def _check(source: Path, of_checkpoint: bool, has_options: bool) -> None:
    """Raises ``UserError`` for options that go with another kind of first argument."""
    is_recipe = source.suffix in (".yaml", ".yml")
    if of_checkpoint and is_recipe:
        raise UserError(f"{source} is a recipe, which says itself what is cut; --heads, --layers "
                        "and --modules go with a checkpoint")  # fmt: skip
    weights = source.is_dir() or source.suffix in _WEIGHTS or is_hub_id(source)
    if not of_checkpoint and weights:
        raise UserError(f"{source} is no recipe; what of this checkpoint is to be cut? Give "
                        "--heads all, --layers all or --modules all")  # fmt: skip
    if not of_checkpoint and has_options:
        raise UserError("options of data and classes go with a checkpoint and --heads, --layers or "
                        "--modules; to change a recipe, give --set data.limit=50")  # fmt: skip


def _say_screened(ledger: "Ledger", recipe: "SweepRecipe") -> None:
    """How estimates agree with what was evaluated, where a sweep was screened."""
    from ablate_kit.reports.sweep_reports import screening_table
    from ablate_kit.sweeps.run_folder.screened import screened

    if known := screened(ledger.folder):
        told, poor = screening_table.sentence(known, ledger.results(), recipe.evaluation.margin)
        if poor:
            warn([told])
        else:
            say(told)


def _write(
    checkpoint: "Checkpoint", ablations: "Sequence[Ablation]", folder: Path, dry_run: bool
) -> None:
    from ablate_kit.ablations.variant_files import write_variants
    from ablate_kit.sweeps.variants.variant_copies import plan_copies

    copies = plan_copies(checkpoint, ablations, folder)
    if not dry_run:
        write_variants(checkpoint, copies.missing, together=False)
    warn_of_twins(checkpoint, copies.missing)
    already = f", {len(copies.there)} were there" if copies.there else ""
    verb = "would be written" if dry_run else "written"
    changed = counted(len(copies.missing), "changed copy", "changed copies")
    say(f"{changed} {verb} to {folder}{already}")
    warn(f"not written: {why}" for why in copies.impossible.values())


def _say_plan(opened: "OpenSweep", memory: float) -> None:
    from ablate_kit.reports.sweep_reports.plan_text import plan_text
    from ablate_kit.sweeps.estimates.pass_cost import pass_cost
    from ablate_kit.sweeps.estimates.sweep_size import size_of

    cost = pass_cost(opened, memory)
    warn(cost.notes)
    say_lines(plan_text(cost, size_of(opened), len(opened.dataset)))
    _say_screening(opened)
    if looks := opened.looks:
        say(f"a race: {looks}, each of which may stop at any of them")


def _say_screening(opened: "OpenSweep") -> None:
    from ablate_kit.reports.sweep_reports.plan_text import screening

    if section := opened.recipe.screen:
        say(screening(section, len(opened.ablations), len(opened.dataset)))
