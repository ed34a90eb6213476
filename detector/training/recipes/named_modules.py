"""Modules of the model that a recipe names: to freeze, or to clip."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from detector.errors import did_you_mean
from detector.training.clipping import Clipping
from detector.training.optim import offset_parameters
from detector.training.recipes.loop_recipe import LoopOptions
from detector.training.recipes.recipe_file import WrongValueError


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """The named modules, whose parameters get no gradient from now on."""
    modules = _with_parameters(model)
    frozen = []
    for number, pattern in enumerate(patterns):
        found = [module for name, module in modules.items() if fnmatchcase(name, pattern)]
        if not found:
            problem = f"training.freeze {_no_module(pattern, modules)}"
            raise WrongValueError(("training", "freeze", number), problem)
        frozen += found
    for module in frozen:
        module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise WrongValueError(("training", "freeze"), "training.freeze leaves nothing to train")
    return frozen


def clipping_of(model: nn.Module, options: LoopOptions) -> Clipping:
    modules = _with_parameters(model)
    parts = []
    for name, limit in options.clip_modules.items():
        if name not in modules:
            problem = f"training.clip_modules {_no_module(name, modules)}"
            raise WrongValueError(("training", "clip_modules", name), problem)
        parts.append((name, list(modules[name].parameters()), limit))
    parts.append(("offsets", offset_parameters(model), options.clip_offsets))
    parts.append(("all", list(model.parameters()), options.clip))
    return Clipping(parts)


def _with_parameters(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters())
    }


def _no_module(name: str, modules: Mapping[str, nn.Module]) -> str:
    near = did_you_mean(name, [known for known in modules if known])
    return f'names no module "{name}" of the detector{near}'
