"""``ablate patch``: which modules make the difference between two checkpoints."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ablate_kit.cli.commands.report import say_where
from ablate_kit.cli.dataset_options import (
    Annotations,
    Devkit,
    Difficult,
    ImageFolder,
    Limit,
    Orientation,
    Shapes,
    Split,
    VocClasses,
    YoloRoot,
    YoloYaml,
    images_given,
    open_dataset,
)
from ablate_kit.cli.model_options import ClassNames, Model, Trust
from ablate_kit.cli.naming import names_of
from ablate_kit.cli.output import Told, progress, say, say_lines, this_command, warn
from ablate_kit.cli.statistics_options import Adjusted, Margin, Resamples, Top, statistics
from ablate_kit.errors import UserError


def patch(
    first: Annotated[Path, typer.Argument(help="Checkpoint that modules are put into.")],
    donor: Annotated[Path, typer.Argument(help="Checkpoint of the same model: the donor.")],
    annotations: Annotations = None,
    images: ImageFolder = None,
    voc: Devkit = None,
    split: Split = None,
    yolo: YoloYaml = None,
    yolo_root: YoloRoot = None,
    difficult: Difficult = None,
    exif: Orientation = None,
    voc_classes: VocClasses = None,
    shapes: Shapes = False,
    limit: Limit = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Levels of a name that make a module; by default the fewest that tell "
                     "three apart.", min=1),
    ] = None,
    alpha: Annotated[
        str,
        typer.Option(help="Points of the line from the first (0) to the donor (1) and beyond."),
    ] = "0.25,0.5,0.75,1.25",
    model: Model = None,
    class_names: ClassNames = None,
    trust_remote_code: Trust = False,
    weights: Annotated[
        str | None, typer.Option(help="Which weights of the first, if it holds several.")
    ] = None,
    donor_weights: Annotated[
        str | None, typer.Option(help="Which weights of the donor; by default as --weights.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    resamples: Resamples = 2000,
    margin: Margin = None,
    adjust: Adjusted = None,
    top: Top = None,
    no_replay: Annotated[
        bool, typer.Option("--no-replay", help="Run the whole network for every variant.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run; runs/patch.")
    ] = None,
) -> None:  # fmt: skip
    """Put modules of one checkpoint into another: which of them make the difference?"""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.metrics.result import changes_of
    from ablate_kit.models.classes import unmatched_classes
    from ablate_kit.models.device import check_device, thread_count
    from ablate_kit.models.open import open_adapter
    from ablate_kit.models.truth import crowded
    from ablate_kit.reports.patch_words import account, interplay
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
    from ablate_kit.sweeps.about import About
    from ablate_kit.sweeps.backends.worker import RunOptions
    from ablate_kit.sweeps.checkpoint_variants import different_tensors
    from ablate_kit.sweeps.donor_variants import module_groups, patches
    from ablate_kit.sweeps.fingerprint import checkpoint_digest, fingerprint_of
    from ablate_kit.sweeps.ledger import Ledger
    from ablate_kit.sweeps.recipe import EvaluationSettings, ModelSection, SweepRecipe
    from ablate_kit.sweeps.run import Progress, sweep
    from ablate_kit.sweeps.scheduler import Batches
    from detector.data.dataset import check_scorable, is_labelled

    names = names_of([first, donor], "a checkpoint")
    asked = statistics(margin, adjust, resamples=resamples)
    if not asked.resamples:
        raise UserError("--resamples is 0: then nothing tells a difference from chance")
    points = _numbers(alpha)
    check_device(device)
    section = images_given(
        *(annotations, images, voc, split, difficult, shapes, limit),
        exif=exif, voc_classes=voc_classes, yolo=yolo, yolo_root=yolo_root,
    )  # fmt: skip
    dataset = open_dataset(section)
    check_scorable(dataset)
    if not is_labelled(dataset):
        raise UserError("ablate patch needs labels: the donor may be better than the first")
    folder = output or Path("runs/patch")
    with ExitStack() as stack:
        stack.enter_context(Ledger.locked(folder))
        stack.enter_context(thread_count(Ledger.threads(folder)))
        about = ModelSection(
            checkpoint=str(first), framework=model, weights=weights, class_names=class_names
        )
        settings = EvaluationSettings(
            batch_size=batch_size, margin=asked.margin, adjust=asked.adjust
        )
        recipe = SweepRecipe.model_construct(model=about, data=section, evaluation=settings)
        opened = []
        for path, which in ((first, weights), (donor, donor_weights or weights)):
            checkpoint = stack.enter_context(open_checkpoint(path, which))
            adapter = open_adapter(
                checkpoint, model, trust_remote_code=trust_remote_code, device=device,
                class_names=class_names,
            )  # fmt: skip
            opened.append((checkpoint, adapter))
        (here, target), (there, other) = opened
        if not target.same_model(other):
            raise UserError(
                f"{names[1]} is no {names[0]} with other weights: the models differ; ablate diff "
                f"{first} {donor} tells in what"
            )
        warn(unmatched_classes(target.classes, dataset.classes))
        taken = different_tensors(target, other)
        state = target.module.state_dict()
        groups = module_groups([name for name in state if name in taken], depth)
        variants = patches(state, taken, groups, points)
        inputs = fingerprint_of(recipe, here, dataset, device)
        inputs |= {"donor": checkpoint_digest(there), "donor_weights": there.place}
        ledger = Ledger(folder, inputs)
        About.of(recipe, this_command()).keep(folder)
        say(f"{len(groups)} modules differ, {len(variants)} variants on {len(dataset)} images: "
            f"{folder}")  # fmt: skip
        with progress() as bars:
            watch = Told(bars, Batches(len(dataset), batch_size))
            done = sweep(
                target,
                dataset,
                variants,
                store=ledger,
                batch_size=batch_size,
                options=RunOptions(replay=not no_replay),
                progress=Progress(begin=watch.begin, advance=watch.advance),
            )
        ledger.close(variants, asked, section.model_dump(mode="json"))
        warn([*crowded(done.truth), *done.notes])
        changes = changes_of(done.truth, done.results, asked)
        together = interplay(done.truth, done.results, asked)
        table = write_sweep_report(ledger, dataset, top=top)
        say_lines("\n".join(account(names[0], names[1], done.results, changes, together)))
        say_lines(table.text())
        say_where(folder)


def _numbers(given: str) -> list[float]:
    try:
        found = [float(one) for one in given.split(",") if one.strip()]
    except ValueError:
        raise UserError(f'--alpha is "{given}"; expected numbers such as 0.5,1.5') from None
    if any(not -10 <= one <= 10 for one in found):
        raise UserError(f"--alpha is {given}; expected numbers from -10 to 10")
    return list(dict.fromkeys(found))
