"""``ablate knobs``: decoder depth, number of queries and input size, without new weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.checkpoints.naming import name_of
from ablate_kit.cli.common_options import BatchSize, output_to
from ablate_kit.cli.dataset_options import DataOptions
from ablate_kit.cli.early import check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.number_lists import whole_numbers
from ablate_kit.cli.origin import origin, source
from ablate_kit.cli.output import print_json, say, say_lines, warn
from ablate_kit.cli.statistics_options import MaxDetections, ScoreThreshold, StatisticsOptions
from ablate_kit.errors import UserError
from ablate_kit.progress_bars import progress

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter
    from ablate_kit.models.model_knobs import Knobs


def knobs(
    checkpoint: Annotated[
        Path, Argument(help="Checkpoint of the hybrid detector, or a Hugging Face folder.")
    ],
    *,
    depth: Annotated[
        bool, Option("--depth", help="Let detections leave the decoder after each of its layers.")
    ] = False,
    queries: Annotated[
        str | None, Option(help="Numbers of object queries, such as 300,200,100.")
    ] = None,
    size: Annotated[
        str | None, Option(help="Sides of the network's input, such as 640,512,384.")
    ] = None,
    data: DataOptions,
    model: ModelOptions,
    score_threshold: ScoreThreshold = 0.5,
    max_detections: MaxDetections = 100,
    batch_size: BatchSize = 8,
    device: Annotated[str, Option(help="Where AP is measured: cpu, cuda, cuda:1 ...")] = ("cpu"),
    rounds: Annotated[
        int | None,
        Option(
            help="Rounds of timing, in each of which every setting runs once; 0: no timing. By "
            "default 10 to 50, about 15 seconds for each batch size, on the CPU and on a GPU.",
            min=0,
        ),
    ] = None,
    tests: StatisticsOptions,
    output: Annotated[Path | None, output_to("Folder for page, tables, figure, JSON.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print results and costs as JSON.")] = False,
) -> None:
    """Turn a detector's knobs one at a time: what each costs in AP, and what it saves."""
    check_there(checkpoint)
    if not (depth or queries or size):
        raise UserError("which knob is to be turned? Give --depth, --queries 200,100 or --size 512")
    where, judged = data.given(), tests.statistics()
    from ablate_kit.checkpoints.digest import digest_of_archive
    from ablate_kit.checkpoints.hub import with_commit
    from ablate_kit.costs.latency import USUAL, TimingRounds
    from ablate_kit.costs.measure import BATCHES, devices_here
    from ablate_kit.knobs.knob_run import cost_of_settings, evaluate_settings
    from ablate_kit.knobs.knob_settings import Asked
    from ablate_kit.metrics.uncertainty.comparison import compare
    from ablate_kit.models.labels.classes import unmatched_classes
    from ablate_kit.models.labels.own_objects import looked_at_for
    from ablate_kit.models.labels.truth import crowded
    from ablate_kit.models.opening.framework_registry import choose
    from ablate_kit.reports.cost_reports.knobs_folder import write_knobs_report
    from ablate_kit.reports.cost_reports.knobs_table import knobs_table
    from ablate_kit.reports.results_file import Source, results_document
    from ablate_kit.sweeps.provenance.data_digest import data_digest

    asked = Asked(depth, whole_numbers(queries, "--queries"), whole_numbers(size, "--size"))
    evaluation = tests.evaluation(batch_size, score_threshold, max_detections)
    dataset = data.to_evaluate(device, output)

    with model.runnable(checkpoint) as (given, file):
        chosen = choose(file, model.model)
        knobs_of = chosen.framework.knobs
        if knobs_of is None:
            raise UserError(
                f"{checkpoint} is of {chosen.model}, of which no knobs are known; expected the "
                "hybrid detector or a Hugging Face model"
            )
        digest = digest_of_archive(given.archive)

    def opened(where: str) -> "tuple[Adapter, Knobs]":
        with model.runnable(checkpoint) as (_, file):
            adapter = model.open(file, where)
        return adapter, knobs_of(adapter)

    adapter, own = opened(device)
    settings = asked.settings(own)
    dataset = looked_at_for(dataset, adapter.classes)
    warn(unmatched_classes(adapter.classes, dataset))
    with progress() as bars:
        bar = bars.add_task("", total=len(dataset) * (len(settings) + 1))
        done = evaluate_settings(
            adapter,
            own,
            settings,
            dataset,
            evaluation,
            name=name_of(checkpoint),
            advance=lambda count: bars.update(bar, advance=count),
        )
    alike = data_digest(dataset).notes(tests.cluster)  # reads all files, once nothing is refused
    warn([*alike, *done.notes, *crowded(done.truth)])
    found = compare(done.truth, done.results, judged)
    costs = cost_of_settings(
        lambda where: (adapter, own) if where == device else opened(where),
        settings,
        dataset,
        devices=(device,) if rounds == 0 else tuple(dict.fromkeys((*devices_here(), device))),
        batches=() if rounds == 0 else BATCHES,
        rounds=TimingRounds(rounds, rounds, warm_up=min(rounds, 3)) if rounds else USUAL,
    )
    sources = [Source("checkpoint", with_commit(checkpoint), digest)]
    if data.annotations:
        sources.append(source("annotations", data.annotations))
    read = origin(sources, where.model_dump(mode="json"), [chosen.model])
    if output:
        write_knobs_report(output, done.results, found, costs, read, done.notes)
    if as_json:
        document = results_document(done.results, found, read)
        names = [one.name for one in done.results]
        told = [one.to_dict(costs[0]) for one in costs]
        print_json({"results": document, "costs": dict(zip(names, told, strict=True))})
        return
    say_lines(knobs_table(done.results, found, costs).text())
    if output:
        say(
            f"written to {output}: report.html, knobs.csv, costs.json, results.json, tables, figure"
        )
