"""What only a running model can undergo: rows taken away, activations from other images.

Example: a model without the first of its object queries.

    one = Ablation("query0", "queries", (), (Removed("query_embed.weight", (0,)),))
    with applied(module, one):
        ...
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Removed, Resampled, philox
from ablate_kit.ablations.name_patterns import to_model_keys
from ablate_kit.anatomy.anatomy import USUAL
from ablate_kit.device_errors import is_of_device
from ablate_kit.errors import UserError
from detector.training.tf32 import tf32

# What a GPU says, later and once for all that runs on it, of an index that is out of range.
_ASSERT = "device-side assert"

InputHook = Callable[[Tensor], Tensor | None]
AfterHook = Callable[[nn.Module, Any, Any, Any], Any]  # a module, what it was given, and gave


@contextmanager
def with_hooks(
    module: nn.Module,
    ablation: Ablation,
    live_names: Mapping[str, Sequence[str]] | None,
    state: Mapping[str, Tensor] | None,
) -> Iterator[None]:
    """``module`` with the ablation's ``live`` part, and as it was after the block."""
    state = module.state_dict(keep_vars=True) if state is None else state
    with ExitStack() as stack:
        for one in ablation.live:
            names = to_model_keys(one.tensor, state, live_names)
            if isinstance(one, Removed):
                tables = {id(state[name]): state[name] for name in names}  # shared: taken once
                for table in tables.values():
                    beside = _tables_beside(state, ablation, table)
                    stack.enter_context(_without_rows(module, table, one, beside))
            else:
                for name in names:
                    stack.enter_context(_resampled(module, name, one))
        yield


def hook_projection_input(module: nn.Module, weight: str, change: InputHook) -> RemovableHandle:
    """Shows ``change`` what comes into a projection, (B, ..., C); what it returns goes on instead.
    Of a convolution's map, (B, C, H, W), the channels are moved to the end for that.

    ``weight`` is the projection's weight in ``module.state_dict()``. PyTorch's own attention does
    not call its output projection: there the attention runs a second time without it.
    """
    path = weight.rpartition(".")[0]
    owner, parent = module.get_submodule(path), module.get_submodule(path.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention):
        return parent.register_forward_hook(
            lambda attention, args, kwargs, output: _reprojected(
                attention, args, kwargs, output, change
            ),
            with_kwargs=True,
        )
    channel = 1 if owner.get_parameter("weight").dim() > 2 else -1
    return owner.register_forward_pre_hook(lambda _, args: _changed(args, change, channel))


@contextmanager
def watch_uncalled(module: nn.Module, weight: str, tell: AfterHook) -> Iterator[None]:
    """Calls ``tell`` after each pass of an attention that did not call its output projection, which
    ``hook_projection_input`` waits for: code of one's own may hand its weights to a function."""
    path = weight.rpartition(".")[0]
    owner, parent = module.get_submodule(path), module.get_submodule(path.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention):
        yield
        return
    called: list[bool] = []

    def after(attention: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        return None if called else tell(attention, args, kwargs, output)

    with (
        owner.register_forward_pre_hook(lambda *_: called.append(True)),
        parent.register_forward_pre_hook(lambda *_: called.clear()),
        parent.register_forward_hook(after, with_kwargs=True),
    ):
        yield


def shown_apart(weight: str, change: InputHook) -> AfterHook:
    """For ``watch_uncalled``: shows ``change`` what would come into the projection."""
    name = weight.rpartition(".")[0].rpartition(".")[2]

    def tell(attention: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        projection: Any = attention.get_submodule(name)
        if projection.weight.dim() != 2:
            return
        given = output[0] if isinstance(output, tuple | list) else output
        heads = _before_projection(attention, projection, args, kwargs)
        again = F.linear(heads, projection.weight, projection.bias)  # if it is that and no more
        if again.shape == given.shape and torch.allclose(again, given, rtol=1e-3, atol=1e-3):
            change(heads)

    return tell


def hooked_module(module: nn.Module, weight: str) -> nn.Module | None:
    """The module whose output the hook changes, or None where it changes what goes into one."""
    parent = module.get_submodule(weight.rpartition(".")[0].rpartition(".")[0])
    return parent if isinstance(parent, nn.MultiheadAttention) else None


def _changed(args: tuple[Any, ...], change: InputHook, channel: int) -> tuple[Any, ...] | None:
    changed = change(args[0].movedim(channel, -1))
    return None if changed is None else (changed.movedim(-1, channel), *args[1:])


def _reprojected(
    attention: nn.MultiheadAttention,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    output: tuple[Any, ...],
    change: InputHook,
) -> tuple[Any, ...] | None:
    heads = _before_projection(attention, attention.out_proj, args, kwargs)
    weight = attention.out_proj.weight
    turn = heads.dim() == 3 and not attention.batch_first
    changed = change(heads.transpose(0, 1) if turn else heads)
    if changed is None:
        return None
    # What another tap has changed of the output stays.
    moved = (changed.transpose(0, 1) if turn else changed) - heads
    return (output[0] + F.linear(moved, weight), *output[1:])


def _before_projection(
    attention: nn.Module, projection: Any, args: Any, kwargs: Mapping[str, Any]
) -> Tensor:
    """What the attention gives where its output projection hands on what comes in."""
    weight, bias = projection.weight, projection.bias
    before = weight.data, None if bias is None else bias.data
    try:
        weight.data = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        if bias is not None:
            bias.data = bias.data.new_zeros(weight.shape[1])
        with tf32(enabled=False):  # which would round the heads
            found = type(attention).forward(attention, *args, **kwargs)
    finally:
        weight.data = before[0]
        if bias is not None:
            bias.data = before[1]
    return found[0] if isinstance(found, tuple | list) else found


def _tables_beside(state: Mapping[str, Tensor], ablation: Ablation, table: Tensor) -> list[str]:
    """The model's other tables of as many queries, of which the ablation leaves all rows."""
    taken = {one.tensor for one in ablation.live}
    return [
        name
        for name, other in state.items()
        if USUAL.is_query_table(name) and name not in taken and other.shape[:1] == table.shape[:1]
    ]


@contextmanager
def _without_rows(
    module: nn.Module, table: Tensor, removed: Removed, beside: Sequence[str]
) -> Iterator[None]:
    """``beside``: other tables of queries, which keep all their rows."""
    count = len(table) if table.dim() else 0
    outside = [row for row in removed.rows if not 0 <= row < count]
    if outside:
        raise UserError(f"{removed.tensor} has no row {outside[0]}; it has {count}")
    kept = [row for row in range(count) if row not in removed.rows]
    if not kept:
        raise UserError(f"{removed.tensor} would have no row left of {count}")
    before = table.data
    started: list[tuple[Any, Mapping[str, Any]]] = []  # the pass that has not ended
    hooks = (
        module.register_forward_pre_hook(
            lambda _, args, kwargs: started.append((args, kwargs)), with_kwargs=True
        ),
        module.register_forward_hook(lambda *_: started.clear()),
    )
    table.data = before[torch.tensor(kept, device=before.device)]
    try:
        yield
    except Exception as error:
        for hook in hooks:
            hook.remove()
        table.data = before
        if _ASSERT in str(error):  # maybe after the pass: a GPU tells late
            raise UserError(
                f"the device stopped on an index while {len(kept)} of {count} rows of "
                f"{removed.tensor} were there: most likely the model asks for all of them, and "
                "does not run with fewer; --device cpu tells for certain"
            ) from error
        if not started or is_of_device(error) or not _runs(module, *started[-1]):
            raise  # it is not for want of these rows
        if beside:
            raise UserError(
                f"the model does not run with {len(kept)} of {count} rows of {removed.tensor}: "
                f"{beside[0]} has a row for each query, too; take them out of both tables at once"
            ) from error
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(
            f"the model does not run with {len(kept)} of {count} rows of {removed.tensor} "
            f"({reason})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        table.data = before


def _runs(module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> bool:
    try:
        module(*args, **kwargs)
    except Exception:  # whatever it is, the first error is the one to tell
        return False
    return True


@contextmanager
def _resampled(module: nn.Module, weight: str, one: Resampled) -> Iterator[None]:
    images: list[int] = []  # of the pass that is running

    def count(_: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        images[:] = [len(given[0])] if given else []

    def change(x: Tensor) -> Tensor:
        if not images or len(x) != images[0]:
            raise UserError(
                f"cannot tell which image is which in what comes into {one.tensor}, "
                f"of shape {tuple(x.shape)}"
            )
        if len(x) < 2:
            raise UserError(
                "an image is alone in its forward pass, so that there is none to resample from; "
                "choose a batch_size and images of one size such that none is"
            )
        other = x.roll(shift_of(one, len(x)), 0)
        changed = x.clone()
        for start, stop in one.ranges:
            changed[..., start:stop] = other[..., start:stop]
        return changed

    def refuse(*_: object) -> None:
        raise UserError(
            f"the model never calls {weight.rpartition('.')[0]} by itself, so that what comes into "
            "it cannot be taken from another image"
        )

    with (
        module.register_forward_pre_hook(count, with_kwargs=True),
        hook_projection_input(module, weight, change),
        watch_uncalled(module, weight, refuse),
    ):
        yield


def shift_of(one: Resampled, images: int) -> int:
    """By how many places images are moved: each gets the activation of the one so far before."""
    drawn = int(philox(one.seed, one.draw, one.first or one.tensor).random_raw())
    return 1 + drawn % (images - 1)
