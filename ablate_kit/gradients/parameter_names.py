"""Names of a model's parameters, as they are without the wrappers of training."""

from collections.abc import Iterator

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

WRAPPERS = (DataParallel, DistributedDataParallel, AveragedModel)
INNER = "module"  # what those call the model that they wrap
# torch.compile, FSDP and activation checkpointing put these levels anywhere in a name.
LEVELS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """(name, parameter, its module), each parameter once, names without wrappers' levels.

    A module of the user's that is called ``module`` keeps its name: only what a known wrapper
    adds is left out.
    """
    modules = dict(model.named_modules())
    added = {
        f"{path}.{INNER}".lstrip(".")
        for path, module in modules.items()
        if isinstance(module, WRAPPERS)
    }
    for name, parameter in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        yield _stripped(path, leaf, added), parameter, modules[path]


def entries(model: nn.Module) -> dict[int, int | None]:
    """By the id of each table whose rows are looked up, such as an embedding's: the row that
    ``padding_idx`` keeps from learning, None where there is none."""
    found: dict[int, int | None] = {}
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            kept = found.get(id(module.weight))
            found[id(module.weight)] = kept if module.padding_idx is None else module.padding_idx
    return found


def _stripped(path: str, leaf: str, added: set[str]) -> str:
    kept: list[str] = []
    levels = path.split(".") if path else []
    for i, level in enumerate(levels):
        if level not in LEVELS and ".".join(levels[: i + 1]) not in added:
            kept.append(level)
    return ".".join([*kept, leaf])
