"""``ablate demo``: the whole product on the checkpoint that is shipped with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.origin import origin, source
from ablate_kit.cli.output import progress, say, say_lines, warn

if TYPE_CHECKING:
    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.checkpoints import Checkpoint


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for table and figure.")
    ] = Path("runs/demo"),
    images: Annotated[int, typer.Option(help="Of the built-in data set.", min=1)] = 100,
) -> None:
    """Inspect, cut and re-evaluate a small trained detector, and show what its parts do."""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.metrics.result import BASELINE
    from ablate_kit.metrics.uncertainty.comparison import compare
    from ablate_kit.models.framework_registry import choose
    from ablate_kit.models.open import open_adapter
    from ablate_kit.reports import tables
    from ablate_kit.reports.folder import check_free, write_report
    from ablate_kit.reports.tree import sizes, tree
    from ablate_kit.sweeps.run import Progress, sweep
    from ablate_kit.sweeps.variant import Variant
    from detector.training.recipes.data_sections import ShapesImages
    from detector.zoo import SHAPES_TINY

    check_free(output)
    with open_checkpoint(SHAPES_TINY) as checkpoint:
        name = SHAPES_TINY.relative_to(SHAPES_TINY.parents[3])
        say(f"{name}: {len(checkpoint.tensors)} tensors, {sizes(checkpoint.tensors)}")
        say_lines("\n".join(f"  {line}" for line in tree(checkpoint.tensors, levels=1)) + "\n")
        ablations = _ablations(checkpoint)
        adapter = open_adapter(checkpoint)
        framework = choose(checkpoint, None).model
    dataset = ShapesImages(limit=images).dataset()
    variants = [Variant.of(ablation) for ablation in ablations]
    with progress() as bars:
        bar = bars.add_task("", total=len(dataset) * (len(ablations) + 1))

        def advance(name: str, count: int) -> None:
            bars.update(bar, advance=count, description=name)

        done = sweep(adapter, dataset, variants, progress=Progress(advance=advance))
    warn(done.notes)
    results = done.results
    found = compare(done.truth, results)
    data = ShapesImages(limit=images).model_dump(mode="json")
    read = origin([source("checkpoint", SHAPES_TINY)], data, framework)
    write_report(output, results, found, read)
    say_lines(f"{tables.comparison(results, found.changes).text()}\n")
    worst = min(results[1:], key=lambda one: one.evaluation.overall["AP"] or 0.0)
    change = (worst.evaluation.overall["AP"] or 0.0) - (results[0].evaluation.overall["AP"] or 0.0)
    say(f"the costliest cut is {worst.name}: AP {change:+z.4f} against {BASELINE}")
    say(f"table, per-class numbers and figure: {output}")


def _ablations(checkpoint: "Checkpoint") -> "list[Ablation]":
    """Each kind of ablation, on parts whose loss can be seen."""
    from ablate_kit.ablations.attention import select_attentions
    from ablate_kit.ablations.kinds.heads import heads_each
    from ablate_kit.ablations.kinds.layers import layers
    from ablate_kit.ablations.kinds.units import units
    from ablate_kit.ablations.kinds.zeros import component
    from ablate_kit.ablations.name_patterns import select

    tensors, where = checkpoint.tensors, str(checkpoint)
    ffn = select("decoder.layers.*.ffn.fc2.weight", tensors, where)
    heads = select_attentions(
        "decoder.layers.0.cross_attn", tensors, where, config=checkpoint.config
    )
    return [
        *heads_each(heads),
        *units({name: tensors[name].shape for name in ffn}, [10, 30], label="decoder-ffn-units"),
        component(select("backbone.csi", tensors, where), "backbone.csi"),
        component(select("backbone.pgi2", tensors, where), "backbone.pgi2"),
        component(select("encoder", tensors, where), "encoder"),
        *layers(tensors, "decoder.layers", "cross_attn", "progressive", where),
        *layers(tensors, "decoder.layers", "self_attn", "progressive", where),
    ]
