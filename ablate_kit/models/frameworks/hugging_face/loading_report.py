"""Which tensors do not fit a model of transformers, by what it says when it loads them."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablate_kit.errors import UserError
from ablate_kit.models.architectures.bundled import bundled
from ablate_kit.models.frameworks import misfit
from ablate_kit.models.frameworks.hugging_face.hf_folder import (
    as_user_error,
    model_types,
    without_hub,
)


def refuse_misfit(
    report: Mapping[str, Any],
    path: Path,
    name_of: Callable[[str], str] = lambda name: name,
    if_renamed: str = "",
    if_foreign: str = "",
) -> None:
    """Raises ``UserError`` where the library's ``report`` tells of tensors that do not fit.

    Args:
        name_of: gives the name in the file at ``path`` of one that has another there.
        if_renamed: ends the line where the model may have tensors of the file under other names.
        if_foreign: ends the line where the model has all its tensors, and the file has more.
    """
    for name, there, here in sorted(report["mismatched_keys"]):
        raise UserError(f"{path}: {misfit.of_shape(name_of(name), there, here)}")
    missing, unexpected = (
        [name_of(name) for name in sorted(report[key])]
        for key in ("missing_keys", "unexpected_keys")
    )
    if said := misfit.of_names(missing, unexpected):
        end = (if_renamed if unexpected else "") if missing else if_foreign
        raise UserError(f"{path}: {said}{end}")


def report_of(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> Mapping[str, Any] | None:
    """What the library would say of a folder with tensors of these ``shapes``, which is made of the
    file at ``path``; ``config`` is what its ``config.json`` would say. None without the library."""
    try:
        import transformers
    except ImportError:
        return None
    # One number each, however large they are.
    tensors = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    for place, kind in model_types(config):
        if kind not in transformers.CONFIG_MAPPING:
            raise UserError(
                f"{config['architectures'][0]}, which {path} would become, needs a newer "
                f'transformers than {transformers.__version__}, which does not know {place}"{kind}"'
            )
    with quiet(transformers), without_hub(), as_user_error(path, "the Hugging Face model"):
        if own := bundled(config):
            configs, kind = own.classes()
        else:
            configs = transformers.CONFIG_MAPPING[config["model_type"]]
            kind = getattr(transformers, config["architectures"][0])
        described = configs.from_dict(dict(config))
        _, report = kind.from_pretrained(
            None,
            config=described,
            state_dict=tensors,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the report tells, not a traceback
        )
    found: Mapping[str, Any] = report
    return found


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without the library's progress bars, load reports and warnings; errors are ours to tell."""
    log = transformers.utils.logging
    verbosity = log.get_verbosity()
    bars = log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
