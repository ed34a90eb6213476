"""``ablate shrink``: a checkpoint without what an ablation zeroes."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.common_options import DryRun
from ablate_kit.cli.dataset_options import DataOptions
from ablate_kit.cli.early import check_files, check_run, check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import print_json, say, say_lines, warn, watched
from ablate_kit.cli.statistics_options import Margin
from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from detector.errors import check_can_write

if TYPE_CHECKING:
    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.checkpoints import Checkpoint
    from ablate_kit.costs.cost import Cost
    from ablate_kit.costs.measure import Opener
    from ablate_kit.metrics.detections import GroundTruth
    from ablate_kit.metrics.result import Result
    from ablate_kit.metrics.uncertainty.comparison import Comparison
    from ablate_kit.models.adapter import Adapter
    from ablate_kit.shrinking.configured import Fewer
    from ablate_kit.shrinking.free_parts import FreeParts
    from ablate_kit.shrinking.smaller_checkpoint import Shrunk
    from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
    from detector.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class PartsOptions:
    """What is taken out, and what becomes of what cannot be."""

    drop: Annotated[
        list[Path] | None,
        typer.Option(
            help="What to take out: an ablation as JSON, a changed copy or its receipt, or a "
            "folder of these."
        ),
    ] = None
    run: Annotated[
        Path | None, typer.Option("--from", help="Folder of a sweep or study, with --free.")
    ] = None
    free: Annotated[
        bool,
        typer.Option(
            "--free",
            help="Take out all that the run of --from found to be free, or better left out.",
        ),
    ] = False
    largest: Annotated[
        bool,
        typer.Option(
            "--largest",
            help="Of that, only the most that is free at once; joint cuts are evaluated for it.",
        ),
    ] = False
    depth: Annotated[
        int | None, typer.Option(help="Keep only the first N decoder layers.", min=1)
    ] = None
    queries: Annotated[
        int | None, typer.Option(help="Keep only the first N object queries.", min=1)
    ] = None
    leave: Annotated[
        bool, typer.Option("--leave", help="Keep what cannot be taken out, as zeros.")
    ] = False
    with_code: Annotated[
        bool,
        typer.Option(
            "--with-code",
            help="Write code into a Hugging Face folder for sizes that no setting describes.",
        ),
    ] = False

    @property
    def fewer(self) -> bool:
        """Whether it is layers or queries that are left out, and no cut."""
        return self.depth is not None or self.queries is not None

    def check(self) -> None:
        """Raises ``UserError`` for options that do not go together."""
        one_of = sum((bool(self.drop), bool(self.run), self.fewer))
        if one_of != 1 or self.free != bool(self.run):
            raise UserError(
                "give --drop with an ablation, or --from RUN with --free, or --depth or --queries"
            )
        if self.largest and not self.run:
            raise UserError("--largest goes with --from RUN --free")
        if self.fewer and (self.leave or self.with_code):
            raise UserError("--leave and --with-code go with --drop and --from")


def shrink(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="Checkpoint of the hybrid detector, a Hugging Face folder, or a file that runs as "
            "one."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File (or folder) to write.")],
    *,
    parts: PartsOptions,
    data: DataOptions,
    margin: Margin = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Also measure latency and memory, in half a minute.")
    ] = False,
    model: ModelOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Take out what an ablation zeroes: a smaller checkpoint with the same outputs."""
    check_there(checkpoint)
    parts.check()
    if margin is not None and not (parts.run or data.named()):
        raise UserError("--margin goes with --from, or with images to evaluate on")
    check_can_write(output)
    check_files(*(parts.drop or []))
    if parts.run:
        check_run(parts.run)
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.checkpoints.located import located
    from ablate_kit.reports.cost_reports.cost_table import cost_table
    from ablate_kit.reports.cost_reports.shrink_report import document, listed, planned
    from ablate_kit.reports.terminal_tables import for_terminal
    from ablate_kit.shrinking.smaller_checkpoint import plan
    from ablate_kit.shrinking.smaller_checkpoint import shrink as shrunk

    dataset = None
    if data.named():
        dataset = data.open()
    elif data.any():
        raise UserError("options of images go with images: --annotations, --voc, --yolo, --shapes")
    with ExitStack() as stack:
        # Of a file that is converted the folder stays beside the run's, of which the smaller one's
        # receipt tells.
        section = stack.enter_context(
            model.section(checkpoint).runnable(
                None if dry_run else (parts.run or output), trusted=model.trust_remote_code
            )
        )
        checkpoint, model = Path(section.checkpoint), replace(model, weights=section.weights)
        opened = stack.enter_context(open_checkpoint(checkpoint, model.weights))
        adapter = model.open(opened)
        chosen = _chosen(parts, opened, adapter, dataset, margin, as_json)
        leave = parts.leave or bool(parts.run)
        if dry_run:
            made = plan(
                opened, adapter, chosen.wanted,
                leave=leave, with_code=parts.with_code, model=model.model,
            )  # fmt: skip
            reduction = made.reduction
            if as_json:
                print_json(
                    planned(
                        output, reduction.structures, chosen.kept, made.left_over, made.settings
                    )
                )
                return
            say_lines(listed(reduction.structures, made.left_over, made.settings))
            say("dry run: nothing written, nothing compared")
            return
        costs: list[Cost] = []
        compared: tuple[list[Result], Comparison] | None = None

        def judge(done: "Shrunk", smaller: Path) -> None:
            nonlocal costs, compared
            trusted = replace(model, trust_remote_code=True) if done.own_code else model
            with open_checkpoint(smaller) as written:
                other = trusted.open(written)

            def on(
                device: str, path: Path, known: "Adapter", weights: str | None = None
            ) -> "Adapter":
                if device == "cpu":
                    return known
                with open_checkpoint(path, weights) as again:
                    return trusted.open(again, device)

            openers = (
                lambda device: on(device, checkpoint, adapter, model.weights),
                lambda device: on(device, smaller, other),
            )
            files = (located(checkpoint), smaller)
            costs = _costs(openers, files, chosen.dataset, latency)
            compared = _compared(adapter, other, chosen)

        done = shrunk(
            opened, chosen.wanted, output, leave=leave, with_code=parts.with_code, adapter=adapter,
            dataset=chosen.dataset, model=model.model, trust_remote_code=model.trust_remote_code,
            judge=judge,
        )  # fmt: skip
    if as_json:
        print_json(document(output, done, chosen.kept, costs, compared))
        return
    say_lines(listed(done.structures, done.left_over, done.settings))
    reference = "model that is configured so" if parts.fewer else "ablated model"
    say(f"outputs differ from those of the {reference} by up to {done.agreement}")
    say_lines(cost_table(costs[0], costs[1]).text())
    if compared:
        printed = for_terminal(*compared)
        say_lines("\n\n".join(table.text() for table in printed))
    code = ", with code of its own: it loads with --trust-remote-code" if done.own_code else ""
    say(f"written to {output}{code}")
    if output.is_dir():
        with open_checkpoint(output) as smaller:
            trust = ", trust_remote_code=True" if "auto_map" in smaller.settings else ""
        say(f"in transformers: AutoModelForObjectDetection.from_pretrained({str(output)!r}{trust})")


@dataclass(frozen=True)
class _Chosen:
    """What is taken out, and how the smaller model is compared with the original.

    Attributes:
        dataset: images that both are run on; None: there are none.
        truth: what detections are compared with; None: the annotations of the images.
        kept: what was found free and stays, with the reason.
    """

    wanted: "Ablation | Fewer"
    evaluation: "EvaluationSettings"
    dataset: "Dataset | None"
    truth: "GroundTruth | None" = None
    kept: "Mapping[str, str]" = field(default_factory=dict)


def _chosen(
    parts: PartsOptions,
    opened: "Checkpoint",
    adapter: "Adapter",
    dataset: "Dataset | None",
    margin: float | None,
    quiet: bool,
) -> _Chosen:
    from ablate_kit.ablations.ablation import joined
    from ablate_kit.ablations.kinds.means import with_parts
    from ablate_kit.metrics.uncertainty.verdict import MARGIN
    from ablate_kit.reports.answer import RANKED_HERE
    from ablate_kit.shrinking.configured import Fewer
    from ablate_kit.shrinking.variants import read_ablations, unseen_images
    from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings

    evaluation = EvaluationSettings(margin=MARGIN if margin is None else margin)
    if parts.drop:
        ablations = [one for path in parts.drop for one in read_ablations(path)]
        with_means = (with_parts(one, opened) for one in ablations)
        return _Chosen(joined(*with_means), evaluation, dataset)
    if not parts.run:
        return _Chosen(Fewer(parts.depth, parts.queries), evaluation, dataset)
    found, own, truth, evaluation = _free(opened, adapter, parts.run, margin, quiet)
    if not dataset and own and truth and (dataset := unseen_images(own, truth)) and not quiet:
        seen = counted(len(dataset), "other image")
        say(f"judged on {seen} of the run's data, which it did not see")
    if dataset:  # what says which of the run's images belong together is for those alone
        evaluation, truth = evaluation.model_copy(update={"cluster": None}), None
    wanted = found.ablation
    if parts.largest:
        wanted = _largest(adapter, dataset or own, truth, found.taken, evaluation, quiet)
        if not dataset:
            warn([f"the largest joint cut that is free: {RANKED_HERE}"])
    return _Chosen(wanted, evaluation, dataset or own, truth, dict(found.kept))


def _free(
    opened: "Checkpoint", adapter: "Adapter", run: Path, margin: float | None, quiet: bool
) -> "tuple[FreeParts, Dataset | None, GroundTruth | None, EvaluationSettings]":
    """What a run found to be free and can go; the run's images, what detections in them are held
    against, and how they are judged by."""
    from ablate_kit.reports.answer import drawn_units, not_shown
    from ablate_kit.shrinking.free_parts import free_parts
    from ablate_kit.shrinking.variants import free_variants, run_images

    free = free_variants(run, opened, margin)
    found = free_parts(opened, adapter, free, run)
    dataset = truth = None
    try:
        dataset, truth = run_images(run)
    except UserError as reason:
        warn([f"the joint cut is not evaluated: {reason}"])
    if not quiet:
        better = f" ({free.gaining} of them better left out)" if free.gaining else ""
        shown = free.seen and not_shown(*drawn_units(free.seen), free.evaluation.margin)
        say(
            f"{len(free.ablations)} of {free.tested} variants are free within "
            f"{free.evaluation.margin:g} AP{better}; {len(found.taken)} can be taken out"
            f"{f'. {shown}' if shown else ''}"
        )
        groups: dict[str, list[str]] = {}
        for name, why in found.kept.items():
            groups.setdefault(why, []).append(name)
        for why, names in groups.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            verb = "stays" if len(names) == 1 else "stay"
            say(f"  {', '.join(names[:3])}{more} {verb}: {why}")
    return found, dataset, truth, free.evaluation


def _largest(
    adapter: "Adapter",
    dataset: "Dataset | None",
    truth: "GroundTruth | None",
    parts: "Sequence[Ablation]",
    evaluation: "EvaluationSettings",
    quiet: bool,
) -> "Ablation":
    """Of the joint cuts of more and more parts, the largest that is free."""
    from ablate_kit.models.own_objects import looked_at_for
    from ablate_kit.reports.terminal_tables import for_terminal
    from ablate_kit.shrinking.largest_joint_cut import joint_cuts
    from ablate_kit.sweeps.scheduler import Batches

    if dataset is None:
        raise UserError("--largest evaluates joint cuts, and there are no images to do it on")
    seen = looked_at_for(dataset, adapter.classes)
    with watched(Batches(len(seen), evaluation.batch_size)) as display:
        found = joint_cuts(adapter, seen, parts, evaluation, truth, display)
    if not quiet:
        say_lines(for_terminal(found.results, found.compared)[0].text())
        count = found.counts[found.largest]
        say(f"the largest joint cut that is free: {count} of {len(parts)} parts")
    return found.cuts[found.largest]


def _costs(
    openers: "Sequence[Opener]", files: Sequence[Path], dataset: "Dataset | None", latency: bool
) -> "list[Cost]":
    """Of both; latency and memory on the CPU, and on a GPU where there is one."""
    from ablate_kit.costs.measure import cost_of, devices_here, file_bytes, measure
    from ablate_kit.shrinking.equality import images_of

    image = images_of(dataset)[0]
    if latency:
        return measure(openers, image, files=files, devices=devices_here())
    return [
        replace(cost_of(opened("cpu"), image), file_bytes=file_bytes(place))
        for opened, place in zip(openers, files, strict=True)
    ]


def _compared(
    adapter: "Adapter", smaller: "Adapter", chosen: _Chosen
) -> "tuple[list[Result], Comparison] | None":
    from ablate_kit.models.own_objects import looked_at_for
    from ablate_kit.shrinking.against_original import against_original
    from ablate_kit.sweeps.scheduler import Batches

    if chosen.dataset is None:
        return None
    seen = looked_at_for(chosen.dataset, adapter.classes)
    with watched(Batches(len(seen), chosen.evaluation.batch_size)) as display:
        return against_original(adapter, smaller, seen, chosen.evaluation, chosen.truth, display)
