"""``ablate shrink``: a checkpoint without what an ablation zeroes."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.cli.common_options import DryRun, output_to
from ablate_kit.cli.dataset_options import DataOptions
from ablate_kit.cli.early import check_files, check_run, check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import print_json, say, say_lines, warn
from ablate_kit.cli.statistics_options import Margin
from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from ablate_kit.sweeps.shown_progress import watched
from detector.errors import check_can_write

if TYPE_CHECKING:
    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.checkpoints import Checkpoint
    from ablate_kit.costs.cost import Cost
    from ablate_kit.metrics.result import Result
    from ablate_kit.metrics.uncertainty.comparison import Comparison
    from ablate_kit.models.adapter import Adapter
    from ablate_kit.shrinking.configured import Fewer
    from ablate_kit.shrinking.judged_on import JudgedOn
    from ablate_kit.shrinking.smaller_checkpoint import Shrunk
    from detector.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class PartsOptions:
    """What is taken out, and what becomes of what cannot be."""

    drop: Annotated[
        list[Path] | None,
        Option(
            help="What to take out: an ablation as JSON, a changed copy or its receipt, or a "
            "folder of these."
        ),
    ] = None
    run: Annotated[
        Path | None, Option("--from", help="Folder of a sweep or study, with --free.")
    ] = None
    free: Annotated[
        bool,
        Option(
            "--free",
            help="Take out all that the run of --from found to be free, or better left out.",
        ),
    ] = False
    largest: Annotated[
        bool,
        Option(
            "--largest",
            help="Of that, only the most that is free at once; joint cuts are evaluated for it.",
        ),
    ] = False
    depth: Annotated[int | None, Option(help="Keep only the first N decoder layers.", min=1)] = None
    queries: Annotated[int | None, Option(help="Keep only the first N object queries.", min=1)] = (
        None
    )
    leave: Annotated[bool, Option("--leave", help="Keep what cannot be taken out, as zeros.")] = (
        False
    )
    with_code: Annotated[
        bool,
        Option(
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
        Argument(
            help="Checkpoint of the hybrid detector, a Hugging Face folder, or a file that runs as "
            "one."
        ),
    ],
    output: Annotated[Path, output_to("File (or folder) to write.")],
    *,
    parts: PartsOptions,
    data: DataOptions,
    margin: Margin = None,
    latency: Annotated[
        bool, Option("--latency", help="Also measure latency and memory, in half a minute.")
    ] = False,
    model: ModelOptions,
    as_json: Annotated[bool, Option("--json", help="Print the report as JSON.")] = False,
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
    from ablate_kit.reports.cost_reports.cost_table import cost_table
    from ablate_kit.reports.cost_reports.shrink_report import document, listed, planned
    from ablate_kit.reports.terminal_tables import for_terminal
    from ablate_kit.shrinking.against_original import against_original, costs_of_both
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
        wanted, kept, on = _chosen(parts, opened, adapter, dataset, margin, as_json)
        leave = parts.leave or bool(parts.run)
        if dry_run:
            made = plan(
                opened, adapter, wanted,
                leave=leave, with_code=parts.with_code, model=model.model,
            )  # fmt: skip
            reduction = made.reduction
            if as_json:
                print_json(
                    planned(output, reduction.structures, kept, made.left_over, made.settings)
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
                both = [(opened, adapter), (written, other)]
                costs = costs_of_both(both, trusted.open, on.dataset, latency=latency)
            if on.dataset is not None:
                with watched(on.batches) as display:
                    compared = against_original(adapter, other, on, display)

        done = shrunk(
            opened, wanted, output, leave=leave, with_code=parts.with_code, adapter=adapter,
            dataset=on.dataset, model=model.model, trust_remote_code=model.trust_remote_code,
            judge=judge,
        )  # fmt: skip
    if as_json:
        print_json(document(output, done, kept, costs, compared))
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


def _chosen(
    parts: PartsOptions,
    opened: "Checkpoint",
    adapter: "Adapter",
    dataset: "Dataset | None",
    margin: float | None,
    quiet: bool,
) -> "tuple[Ablation | Fewer, Mapping[str, str], JudgedOn]":
    """What is taken out; what was found free and stays, with the reason; how that is judged."""
    from ablate_kit.metrics.uncertainty.verdict import MARGIN
    from ablate_kit.reports.answer import RANKED_HERE
    from ablate_kit.reports.cost_reports.shrink_report import found_free
    from ablate_kit.reports.terminal_tables import for_terminal
    from ablate_kit.shrinking.ablation_files import ablation_of_files
    from ablate_kit.shrinking.configured import Fewer
    from ablate_kit.shrinking.free_parts import free_parts
    from ablate_kit.shrinking.free_variants import free_variants
    from ablate_kit.shrinking.judged_on import JudgedOn, judged_beside, without_clusters
    from ablate_kit.shrinking.largest_joint_cut import joint_cuts
    from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings

    if not parts.run:
        own = EvaluationSettings(margin=MARGIN if margin is None else margin)
        fewer = Fewer(parts.depth, parts.queries)
        wanted = ablation_of_files(parts.drop, opened) if parts.drop else fewer
        return wanted, {}, JudgedOn(own, dataset)
    free = free_variants(parts.run, opened, margin)
    found = free_parts(opened, adapter, free, parts.run)
    tell = (lambda _: None) if quiet else say_lines
    tell(found_free(free, found))
    on = JudgedOn(without_clusters(free.evaluation), dataset)
    if dataset is None:
        try:
            on = judged_beside(parts.run, free.evaluation)
        except UserError as reason:
            warn([f"the joint cut is not evaluated: {reason}"])
        else:
            if not on.chose:
                seen = counted(on.batches.images, "other image")
                tell(f"judged on {seen} of the run's data, which it did not see")
    if not parts.largest:
        return found.ablation, found.kept, on
    if on.dataset is None:
        raise UserError("--largest evaluates joint cuts, and there are no images to do it on")
    with watched(on.batches) as display:
        cuts = joint_cuts(adapter, found.taken, on, display)
    tell(for_terminal(cuts.results, cuts.compared)[0].text())
    largest, count = cuts.largest
    tell(f"the largest joint cut that is free: {count} of {len(found.taken)} parts")
    if on.chose:
        warn([f"the largest joint cut that is free: {RANKED_HERE}"])
    return largest, found.kept, on
