"""Modules of the detector that a recipe names: to freeze, or to clip."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from detector.errors import UserError, did_you_mean
from detector.network.model import HybridDetector
from detector.training.clipping import Clipping
from detector.training.optim import offset_parameters
from detector.training.recipe import TrainRecipe


def freeze(model: HybridDetector, patterns: Sequence[str]) -> list[nn.Module]:
    """The named modules, whose parameters get no gradient from now on."""
    modules = {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters())
    }
    frozen = []
    for pattern in patterns:
        found = [module for name, module in modules.items() if fnmatchcase(name, pattern)]
        if not found:
            near = did_you_mean(pattern, [known for known in modules if known])
            raise UserError(f'training.freeze names no module "{pattern}" of the detector{near}')
        frozen += found
    for module in frozen:
        module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("training.freeze leaves nothing to train")
    return frozen


def clipping_of(model: HybridDetector, recipe: TrainRecipe) -> Clipping:
    modules, options = dict(model.named_modules()), recipe.training
    parts = []
    for name, limit in options.clip_modules.items():
        if name not in modules or not any(True for _ in modules[name].parameters()):
            near = did_you_mean(name, [known for known in modules if known])
            raise UserError(f'training.clip_modules names no module "{name}" of the detector{near}')
        parts.append((name, list(modules[name].parameters()), limit))
    parts.append(("offsets", offset_parameters(model), options.clip_offsets))
    parts.append(("all", list(model.parameters()), options.clip))
    return Clipping(parts)
