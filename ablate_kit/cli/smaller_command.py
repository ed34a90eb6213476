"""The command that makes a model smaller by what a run found."""

import shlex
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.checkpoints.naming import name_of
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from ablate_kit.metrics.uncertainty.comparison import Comparison
    from ablate_kit.sweeps.open_sweep import OpenSweep


def smaller_command(
    opened: "OpenSweep", run: Path, compared: "Comparison", *, trusted: bool
) -> str | None:
    """What ``ablate shrink`` can take out of what a finished run found to be free, and with which
    command; None where nothing is free.

    ``compared`` is all of the run's changes, as its report has them. Raises ``UserError`` where
    nothing of what is free can be taken out.
    """
    from ablate_kit.models.inference.detect import device_of
    from ablate_kit.models.opening.open import open_adapter
    from ablate_kit.shrinking.free_parts import free_parts
    from ablate_kit.shrinking.free_variants import free_variants
    from ablate_kit.shrinking.smaller_checkpoint import plan

    checkpoint, model = opened.checkpoint, opened.recipe.model
    try:
        free = free_variants(run, checkpoint, compared=compared)
    except UserError:
        return None
    adapter = opened.adapter
    if device_of(adapter.module).type != "cpu":
        adapter = open_adapter(checkpoint, model.framework, trust_remote_code=trusted)
    found = free_parts(checkpoint, adapter, free, run)
    with_code = False
    try:
        made = plan(checkpoint, adapter, found.ablation, leave=True)
    except UserError:  # no configuration describes what is left
        with_code = True
        made = plan(checkpoint, adapter, found.ablation, leave=True, with_code=True)
    suffix = "" if made.form == "folder" else ".safetensors"
    given = {
        "--from": run,
        "--model": model.framework,
        "--weights": model.weights,
        "--class-names": model.class_names,
        "-o": f"{name_of(Path(model.checkpoint))}-smaller{suffix}",
    }
    flags = {
        "--free": True,
        "--largest": len(found.taken) > 1,
        "--with-code": with_code,
        "--trust-remote-code": trusted,
    }
    words = ["ablate", "shrink", model.checkpoint]
    words += [word for option, value in given.items() if value for word in (option, str(value))]
    words += [flag for flag, given in flags.items() if given]
    whole = sum(map(prod, checkpoint.shapes.values()))
    left = sum(map(prod, made.reduction.shapes().values()))
    cuts = "1 free cut" if len(found.taken) == 1 else f"{len(found.taken)} free cuts"
    return f"smaller by up to {1 - left / whole:.1%} ({cuts} can be taken out): {shlex.join(words)}"
