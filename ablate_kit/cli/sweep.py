"""``ablate sweep``: a study of many ablations, from a recipe."""

from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.naming import name_of
from ablate_kit.cli.output import progress, say, say_lines, this_command, warn
from ablate_kit.cli.report import say_where
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.checkpoints import Checkpoint
    from ablate_kit.metrics.evaluate import Evaluation
    from ablate_kit.models.adapter import Adapter
    from ablate_kit.sweeps.rounds import Search
    from detector.data.dataset import Dataset


def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML file; see recipes/sweep.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder; runs/RECIPE by default.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: data.limit=50.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its cost; evaluate nothing.")
    ] = False,
    write: Annotated[
        Path | None, typer.Option(help="Folder for a changed copy of each variant, too.")
    ] = None,
    memory: Annotated[
        int, typer.Option(help="MiB that recorded outputs may take; less splits the sweep.", min=0)
    ] = 2048,
    no_replay: Annotated[
        bool, typer.Option("--no-replay", help="Run the whole network for every variant.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Threads that prepare images.", min=1)] = 2,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of a CPU's forward pass, in each process.", min=1),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1 ...; several (cuda:0,cuda:1): a process each.")
    ] = "cpu",
    ray: Annotated[
        str, typer.Option(help="Address of a Ray cluster that runs already, or auto.")
    ] = "",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let a folder or config run its code.")
    ] = False,
) -> None:
    """Evaluate many ablations in one pass over the data; continues where it was stopped."""
    from ablate_kit.ablations.resample import check_batches
    from ablate_kit.ablations.rule import Source
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.classes import unmatched_classes
    from ablate_kit.models.device import check_device, thread_count
    from ablate_kit.models.open import open_adapter
    from ablate_kit.reports.study import write_study
    from ablate_kit.sweeps.distributed import import_ray
    from ablate_kit.sweeps.inputs import inputs_of
    from ablate_kit.sweeps.ledger import Ledger
    from ablate_kit.sweeps.recipe import load_sweep
    from ablate_kit.sweeps.reference import Images
    from ablate_kit.sweeps.rounds import curves, greedy_sizes, run_rounds
    from ablate_kit.sweeps.study import Where, done_so_far, run_study
    from ablate_kit.sweeps.worker import Settings
    from detector.data.dataset import check_scorable, notes_on
    from detector.stopping import keeping

    plan = load_sweep(recipe, settings or [])
    devices = tuple(device.split(","))
    for one in devices:
        check_device(one)
    if ray and len(devices) > 1:
        raise UserError("give one device with --ray: the cluster has as many as it has")
    if ray:
        import_ray()
    elsewhere = bool(ray) or len(devices) > 1
    folder = output or Path("runs") / name_of(recipe)
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(Ledger.locked(folder))
        stack.enter_context(thread_count(threads or Ledger.threads(folder)))
        checkpoint = stack.enter_context(
            open_checkpoint(Path(plan.model.checkpoint), plan.model.weights)
        )

        @cache
        def adapter_of() -> "Adapter":
            return open_adapter(
                checkpoint,
                plan.model.framework,
                trust_remote_code=trust_remote_code,
                device="cpu" if elsewhere else devices[0],
                class_names=plan.model.class_names,
            )

        looked: list[Images] = []

        def reference() -> Images:
            images = (plan.reference or plan.data).dataset()
            looked.append(Images(adapter_of(), images, plan.evaluation.batch_size))
            return looked[-1]

        source = Source(checkpoint, reference, adapter_of)
        ablations = plan.make(source)  # mistakes show before a model is made
        if plan.reference and not looked:
            raise UserError("reference is set, and no rule takes a mean over its images")
        adapter = adapter_of()
        dataset = plan.data.dataset()
        warn(notes_on(dataset))
        check_scorable(dataset)
        warn(unmatched_classes(adapter.classes, dataset.classes))
        check_batches(ablations, len(dataset), plan.evaluation.batch_size)
        if write and ablations:
            _write(checkpoint, ablations, write, dry_run)
        if dry_run:
            _say_plan(adapter, dataset, ablations, memory * 2**20)
            for rounds, tries in greedy_sizes(plan, source):
                say(f"a greedy search comes on top: {rounds} rounds, {tries} variants")
            return
        inputs = inputs_of(plan, checkpoint, dataset, devices[0], workers)
        ledger = Ledger(folder, inputs)
        say(f"{len(ablations)} variants on {len(dataset)} images: {folder}")

        def so_far() -> tuple[bool, str]:
            return done_so_far(ledger, ablations, len(dataset), plan.evaluation.batch_size)

        begun, told = so_far()
        if begun:
            say(f"going on: {told} are done")
        stack.enter_context(
            keeping(lambda: f"{folder} keeps {so_far()[1]}; to go on: {this_command()}")
        )
        bars = stack.enter_context(progress())
        bar = bars.add_task("")
        notes: dict[str, None] = {}

        def unchanged() -> None:
            now = inputs_of(plan, checkpoint, dataset, devices[0], workers)
            for name in ("checkpoint", "configuration", "data"):
                if now[name] != inputs[name]:
                    raise UserError(
                        f"the {name} changed on disk while the sweep ran; give the command again "
                        "with another folder"
                    )

        def evaluate(chosen: "Sequence[Ablation]") -> "Mapping[str, Evaluation]":
            bars.reset(bar, total=len(dataset) * (len(chosen or ablations) + 1))
            found = run_study(
                ledger,
                adapter,
                dataset,
                [*ablations, *chosen],
                plan,
                Settings(not no_replay, memory * 2**20, workers),
                Where(devices, ray, trust_remote_code),
                advance=lambda name, count: bars.update(bar, advance=count, description=name),
                unchanged=unchanged,
            )
            notes.update(dict.fromkeys(found))
            entries = ledger.entries()
            return {one.digest: entries[ledger.key(one)].evaluation for one in chosen}

        evaluate(())
        searches = run_rounds(plan, source, evaluate)
        if searches:
            _say_searches(searches)
            removed = curves(searches, source)
            if write:
                _write(checkpoint, removed, write, dry_run)
            evaluate(removed)
        warn(notes)
        table = write_study(ledger, dataset)
        say_lines(table.text())
        say_where(folder)


def _say_searches(searches: "Sequence[Search]") -> None:
    for rule, steps in searches:
        say(f"greedy removal of heads of {rule.pattern}, each time the one without which "
            f"{rule.metric} stays highest:")  # fmt: skip
        for number, step in enumerate(steps, start=1):
            value = "-" if step.value is None else f"{step.value:.4f}"
            say(f"  {number:3}  {step.module} head {step.head}  {value}")


def _write(
    checkpoint: "Checkpoint", ablations: "list[Ablation]", folder: Path, dry_run: bool
) -> None:
    from ablate_kit.sweeps.write import plan_copies, write_copies

    copies = plan_copies(checkpoint, ablations, folder)
    if not dry_run:
        write_copies(checkpoint, copies)
    already = f", {len(copies.there)} were there" if copies.there else ""
    verb = "would be written" if dry_run else "written"
    count = len(copies.missing)
    say(f"{count} changed cop{'ies' if count != 1 else 'y'} {verb} to {folder}{already}")
    warn(f"not written: {why}" for why in copies.impossible.values())


def _say_plan(
    adapter: "Adapter", dataset: "Dataset", ablations: "list[Ablation]", memory: float
) -> None:
    from ablate_kit.reports.table import Table
    from ablate_kit.sweeps.passes import Passes
    from ablate_kit.sweeps.plan import BASELINE, shares
    from ablate_kit.sweeps.variant import Ablated

    variants = [Ablated.of(one, adapter) for one in ablations]
    with Passes(adapter, variants, memory=memory) as passes:
        passes.look([adapter.prepare(dataset.image(0))])
    warn(passes.notes)
    if passes.trace is None or passes.plan is None:
        say(f"{len(ablations)} variants, each in full")
        return
    found = shares(passes.trace, passes.plan, adapter.module)
    names = {i: one.name for i, one in enumerate(ablations)} | {BASELINE: "unmodified"}
    rows = []
    for i, one in enumerate(ablations):
        where, base, share = found.get(i, ("the start", None, 1.0))
        rows.append(
            (one.name, where, names.get(base, "-") if base is not None else "-", f"{share:.1%}")
        )
    header = ("variant", "restarts in", "on top of", "of the full cost")
    say_lines(Table("", header, tuple(rows), header[:3]).text())
    total = sum(share for *_, share in found.values()) + len(ablations) - len(found)
    parts = len(passes.plan.parts)
    say(
        f"{len(ablations)} variants on {len(dataset)} images; {parts} part{'s' * (parts != 1)}; "
        f"forward passes cost {(total + parts) / (len(ablations) + 1):.1%} of running all in full, "
        "after the first batch"
    )
