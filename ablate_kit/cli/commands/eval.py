"""``ablate eval``: checkpoints on annotated images."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.checkpoints.naming import names_of, names_of_two
from ablate_kit.cli.common_options import BatchSize, Device, output_to
from ablate_kit.cli.dataset_options import DataOptions
from ablate_kit.cli.early import check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.origin import origin, source
from ablate_kit.cli.output import print_json, say, say_lines, warn
from ablate_kit.cli.statistics_options import MaxDetections, ScoreThreshold, StatisticsOptions, Top
from ablate_kit.errors import UserError
from ablate_kit.progress_bars import progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ablate_kit.models.adapter import Adapter
    from ablate_kit.reports.results_file import Source
    from ablate_kit.sweeps.variants.variant import Variant
    from detector.data.dataset import Dataset


def evaluate(
    checkpoints: Annotated[
        list[Path], Argument(help="Files or folders; the others are compared with the first.")
    ],
    *,
    data: DataOptions,
    model: ModelOptions,
    other_weights: Annotated[
        str | None, Option(help="Which weights of the other checkpoints; by default as --weights.")
    ] = None,
    score_threshold: ScoreThreshold = 0.5,
    max_detections: MaxDetections = 100,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
    tests: StatisticsOptions,
    top: Top = None,
    no_replay: Annotated[
        bool, Option("--no-replay", help="Run the whole network for every checkpoint.")
    ] = False,
    output: Annotated[Path | None, output_to("Folder for tables, figure and JSON.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Evaluate checkpoints: COCO mAP, F1 and GIoU, overall and per class."""
    check_there(*checkpoints)
    names, where = _names(checkpoints, model.weights, other_weights), data.given()
    tests.check(len(names), top, as_json)
    asked = tests.statistics()
    if no_replay and len(names) < 2:
        raise UserError("--no-replay has no effect on one alone: nothing is replayed")
    from ablate_kit.metrics.renumbered_classes import renumbered
    from ablate_kit.metrics.uncertainty.comparison import compare
    from ablate_kit.models.labels.truth import crowded
    from ablate_kit.reports.error_analysis import write_details
    from ablate_kit.reports.folder import write_report
    from ablate_kit.reports.results_file import results_document
    from ablate_kit.reports.terminal_tables import for_terminal
    from ablate_kit.sweeps.backends.worker import RunOptions
    from ablate_kit.sweeps.checkpoint_variants import group_by_architecture, sweep_families
    from ablate_kit.sweeps.provenance.data_digest import data_digest
    from ablate_kit.sweeps.run import Progress
    from detector.data.dataset import is_labelled

    evaluation = tests.evaluation(batch_size, score_threshold, max_detections)
    dataset = data.to_evaluate(device, output)
    if not is_labelled(dataset) and len(names) < 2:
        raise UserError(
            "--images alone names no labels: then checkpoints are compared with the first of them; "
            "give another one"
        )
    if len(names) > 1:  # one alone gets no interval
        warn(data_digest(dataset).notes(tests.cluster))
    others = replace(model, weights=other_weights or model.weights)
    opening = _Opening(dataset, (model, others), device)
    # Detections lie on disk meanwhile: those of many checkpoints would not fit into memory.
    with TemporaryDirectory(prefix="ablate-") as kept:
        with progress() as bars:
            bar = bars.add_task("", total=len(dataset) * len(names))

            def advance(name: str, count: int) -> None:
                bars.update(bar, advance=count, description=name)

            families = list(group_by_architecture(opening.variants(checkpoints, names)))
            done = sweep_families(
                families,
                opening.dataset,
                evaluation,
                folder=Path(kept),
                options=RunOptions(replay=not no_replay),
                progress=Progress(advance=advance),
            )
        truth, found = done.truth, {one.name: one for one in done.results}
        results = [found[name] for name in names]
        warn([*done.notes, *crowded(truth), *renumbered(truth, results[0].detections)])
        compared = compare(truth, results, asked)
        if data.annotations:
            opening.sources.append(source("annotations", data.annotations))
        read = origin(opening.sources, where.model_dump(mode="json"), sorted(opening.frameworks))
        if output:
            write_report(
                output, results, compared, read, lambda place: write_details(place, truth, results)
            )
        if as_json:
            print_json(results_document(results, compared, read))
            return
        printed = for_terminal(results, compared, top=top)
        say_lines("\n\n".join(table.text() for table in printed))
        if output:
            say(f"written to {output}: results.json, tables, per class, figure")


def _names(
    checkpoints: "Sequence[Path]", weights: str | None, other_weights: str | None
) -> list[str]:
    if other_weights is not None and len(checkpoints) < 2:
        raise UserError("--other-weights has no effect on one alone: give the file twice")
    if len(checkpoints) == 2:
        return names_of_two(checkpoints[0], checkpoints[1], weights, other_weights)
    return names_of(checkpoints, "a checkpoint")


@dataclass
class _Opening:
    """Opens one checkpoint after the other, and keeps what is to be said of them."""

    dataset: "Dataset"  # images without labels are looked at for the classes of the first
    # How the first checkpoint is opened, and how the others are.
    models: tuple[ModelOptions, ModelOptions]
    device: str
    sources: "list[Source]" = field(default_factory=list)
    frameworks: set[str] = field(default_factory=set)

    def variants(
        self, paths: "Sequence[Path]", names: "Sequence[str]"
    ) -> "Iterator[tuple[Variant, Adapter]]":
        from ablate_kit.ablations.receipt import made_by
        from ablate_kit.checkpoints.digest import digest_of_archive
        from ablate_kit.checkpoints.hub import with_commit
        from ablate_kit.models.labels.classes import unmatched_classes
        from ablate_kit.models.labels.own_objects import looked_at_for
        from ablate_kit.models.opening.framework_registry import choose
        from ablate_kit.reports.results_file import Source
        from ablate_kit.sweeps.variants.variant import Variant

        noted: set[str] = set()
        for number, (path, name) in enumerate(zip(paths, names, strict=True)):
            model = self.models[min(number, 1)]
            with model.runnable(path) as (given, file):
                ablation = made_by(given)
                digest = digest_of_archive(given.archive)
                self.sources.append(Source("checkpoint", with_commit(path), digest))
                self.frameworks.add(choose(file, model.model).model)
                adapter = model.open(file, self.device)
            self.dataset = looked_at_for(self.dataset, adapter.classes)
            for note in unmatched_classes(adapter.classes, self.dataset):
                if note not in noted:  # once for copies of one model
                    warn([note])
                    noted.add(note)
            kind, factors = (ablation.kind, ablation.factors) if ablation else ("checkpoint", {})
            yield Variant(name, kind, factors=factors), adapter
