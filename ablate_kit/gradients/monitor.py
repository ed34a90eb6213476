"""Measures what every optimizer step does to every parameter, in anybody's training loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from ablate_kit.errors import UserError
from ablate_kit.gradients.categories import CATEGORIES
from ablate_kit.gradients.counters import Counters, Flags, Floats, Steps
from ablate_kit.gradients.measured import CHANGES, Measured
from ablate_kit.gradients.parameter_names import entries, named_parameters
from ablate_kit.gradients.shape_group import GRADIENT, UPDATE, group_by_shape
from ablate_kit.gradients.thresholds import GradientThresholds
from ablate_kit.gradients.timeline import Timeline

COLUMNS = (*GRADIENT, *UPDATE)


class GradientMonitor:
    """``with GradientMonitor(model, optimizer) as monitor: ...`` around a training loop.

    The optimizer's own step hooks say when to look: gradients directly before a step, weights
    directly before and after it. So accumulated gradients are whole, a scaler's are unscaled,
    steps that it skips are no steps, and whatever else happens to the weights between steps (an
    average swapped in for evaluation) is no update. A loop that clips shows the clipped gradients,
    unless it calls ``observe()`` before it clips.

    Everything is measured on the parameters' device at every step, and fetched every ``interval``
    steps in one transfer per device.

    Args:
        model: any module; wrappers (compilation, data parallelism) do not show in names.
        optimizer: the one whose steps are measured. Parameters that need a gradient and are not
            its own are measured, too, and will be found not to be trained.
        compat: keep the thesis notebook's counters as well (one more copy of the weights).
        called: what parameters are told by, of those whose own name is another: a checkpoint's.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        thresholds: GradientThresholds | None = None,
        interval: int = 20,
        compat: bool = False,
        called: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module) or not isinstance(optimizer, Optimizer):
            given = f"a {type(model).__name__} and a {type(optimizer).__name__}"
            raise UserError(f"the monitor was given {given}; expected a module and its optimizer")
        if interval < 1:
            raise UserError(f"interval is {interval}; expected 1 or more")
        self.limits = thresholds or GradientThresholds()
        self.optimizer = optimizer
        self.interval = interval
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        told = called or {}
        everything = [(told.get(n, n), one, module) for n, one, module in named_parameters(model)]
        found = [
            (name, parameter, module)
            for name, parameter, module in everything
            if (parameter.requires_grad or id(parameter) in owned)
            and parameter.is_floating_point()
            and parameter.numel()
        ]
        if not found:
            raise UserError("the model has no parameter to train")
        self.names = tuple(name for name, _, _ in found)
        self.parameters = [parameter for _, parameter, _ in found]
        self._elements = {name: parameter.numel() for name, parameter, _ in everything}
        tables = entries(model)
        self._entries = {
            i: tables[id(one)] for i, one in enumerate(self.parameters) if id(one) in tables
        }
        measured = set(self.names)
        self._others = {name: p for name, p, _ in everything if name not in measured}
        self._thawed: set[str] = set()
        count = len(found)
        sizes = np.array([parameter.numel() for parameter in self.parameters], dtype=float)
        self._families = group_by_shape([(parameter, module) for _, parameter, module in found])
        self._members: list[Tensor] = [self.parameters[0]] * count  # copies before the step
        for family, positions in self._families:
            for position, member in zip(positions, family.members, strict=True):
                self._members[position] = member
        devices = {family.device for family, _ in self._families}
        self._columns = {  # where a device's measurements belong
            device: [i for f, positions in self._families if f.device == device for i in positions]
            for device in devices
        }
        self.counters = Counters(count, sizes, self.limits)
        self.timeline = Timeline(count)
        self._notebook = CATEGORIES["notebook"](count, self.limits) if compat else None
        self._watched = (
            [self._notebook.watch(family) for family, _ in self._families] if self._notebook else []
        )
        self._trainable = self._needing_gradients()  # a loop may thaw parameters as it goes
        self._in_optimizer, self._decays = np.zeros(count, bool), np.zeros(count, bool)
        self._rate = np.zeros(count)
        self._observed: _Observed | None = None
        self._waiting: list[_Step] = []
        self._skipped = 0
        self._by_hand = False
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def attach(self) -> None:
        if not self._hooks:
            self._hooks = [
                self.optimizer.register_step_pre_hook(self._before),
                self.optimizer.register_step_post_hook(self._after),
            ]

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._observed = None

    def observe(self) -> None:
        """Reads the gradients now, for the next step: call it before clipping them.

        With a gradient scaler, call it after ``scaler.unscale_(optimizer)``.
        """
        self._by_hand = True
        self._observe(scaled=False)

    def measured(self) -> Measured:
        """All that was measured up to now; the loop may go on afterwards."""
        self._fetch()
        changes = self._each_family([family.since_start() for family, _ in self._families])
        notebook = None
        if self._notebook:
            since = self._each_family([one.since_start()[None] for one in self._watched])
            notebook = self._notebook.categories(since[0])
        return Measured(
            names=self.names,
            shapes=tuple(tuple(parameter.shape) for parameter in self.parameters),
            elements=self._elements,
            frozen=tuple(name for name in self._others if name not in self._thawed),
            thawed=tuple(name for name in self._others if name in self._thawed),
            trainable=self._trainable.copy(),
            in_optimizer=self._in_optimizer.copy(),
            decays=self._decays.copy(),
            adaptive="adam" in type(self.optimizer).__name__.lower(),
            limits=self.limits,
            counters=self.counters,
            timeline=self.timeline,
            changes=dict(zip(CHANGES, changes, strict=True)),
            rows=self._rows(),
            entries=self._entries,
            skipped=self._skipped,
            clipped=not self._by_hand,
            notebook=notebook,
        )

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # A closure computes the gradients within the step: they are read after it.
        if self._observed is None and not _closure(args, kwargs):
            self._observe(scaled=True)
        self._trainable |= self._needing_gradients()
        self._thawed.update(name for name, p in self._others.items() if p.requires_grad)
        torch._foreach_copy_(self._members, [p.detach() for p in self.parameters])
        self._decay(optimizer)

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._observed is None:
            self._observe(scaled=True)
        seen, self._observed = self._observed, None
        if seen is None:
            return
        # A fused optimizer under a gradient scaler decides on the device whether it steps.
        undone = getattr(optimizer, "found_inf", None)
        undone = undone if isinstance(undone, Tensor) else None
        columns: dict[torch.device, list[Tensor]] = {device: [] for device in self._columns}
        for i, ((family, _), gradient) in enumerate(
            zip(self._families, seen.families, strict=True)
        ):
            if gradient is None:
                values = torch.zeros(len(GRADIENT), len(family), device=family.device)
            else:
                values, largest = gradient
                if undone is not None:
                    largest = torch.where(undone.to(largest.device) > 0, 0.0, largest)
                torch.maximum(family.row_max, largest, out=family.row_max)
            parts = [values, family.updates()]
            if self._watched:
                parts.append(self._watched[i].changes()[None])
            columns[family.device].append(torch.cat(parts))
        self._waiting.append(
            _Step(
                {device: torch.cat(parts, 1) for device, parts in columns.items()},
                seen.present,
                self._rate.copy(),
                None if undone is None else undone.detach().clone(),
            )
        )
        if len(self._waiting) >= self.interval:
            self._fetch()

    @torch.no_grad()
    def _observe(self, *, scaled: bool) -> None:
        scale = getattr(self.optimizer, "grad_scale", None) if scaled else None
        scale = scale if isinstance(scale, Tensor) else None
        self._observed = _Observed(
            [
                family.gradients(None if scale is None else scale.to(family.device))
                for family, _ in self._families
            ],
            np.array([parameter.grad is not None for parameter in self.parameters]),
        )

    def _needing_gradients(self) -> Flags:
        return np.array([parameter.requires_grad for parameter in self.parameters])

    def _decay(self, optimizer: Optimizer) -> None:
        """Takes from the copies what decay alone will take from the weights.

        The update is then what the gradient did. Where decay is part of the gradient and goes
        through momentum or Adam's normalization, the two cannot be told apart.
        """
        place = {id(parameter): i for i, parameter in enumerate(self.parameters)}
        self._in_optimizer = np.zeros(len(place), bool)
        self._rate = np.zeros(len(place))
        for group in optimizer.param_groups:
            rate, decay = float(group["lr"]), float(group.get("weight_decay") or 0)
            mine = [place[id(p)] for p in group["params"] if id(p) in place]
            self._in_optimizer[mine] = True
            self._rate[mine] = rate
            if not decay:
                continue
            self._decays[mine] = True
            moved = [self._members[i] for i in mine if self.parameters[i].grad is not None]
            # The very operations of the optimizers, so that a zero gradient leaves exactly zero.
            if moved and group.get("decoupled_weight_decay", False):
                torch._foreach_mul_(moved, 1 - rate * decay)
            elif moved and isinstance(optimizer, SGD) and not group["momentum"]:
                torch._foreach_add_(moved, torch._foreach_mul(moved, decay), alpha=-rate)

    def _fetch(self) -> None:
        """Brings what waits on the devices here: one transfer per device."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        width = len(COLUMNS) + bool(self._watched)
        values = np.zeros((len(waiting), width, len(self.names)))
        for device, positions in self._columns.items():
            block = torch.stack([step.columns[device] for step in waiting])
            values[:, :, positions] = block.cpu().numpy()
        asked = [step.undone for step in waiting if step.undone is not None]
        answers = iter(torch.stack(asked).flatten().cpu().tolist() if asked else [])
        kept = np.array([step.undone is None or not next(answers) for step in waiting])
        self._skipped += int((~kept).sum())
        if not kept.any():
            return
        present = np.stack([step.present for step in waiting])[kept]
        columns = dict(zip(COLUMNS, values[kept].transpose(1, 0, 2), strict=False))
        rate = np.stack([step.rate for step in waiting])[kept]
        steps = Steps(first=self.counters.steps + 1, present=present, rate=rate, **columns)
        self.counters.add(steps)
        self.timeline.add(steps)
        if self._notebook:
            for row in zip(present, steps.grad_norm, values[kept, -1], strict=True):
                self._notebook.add(*row)

    def _each_family(self, found: list[Tensor]) -> Floats:
        """(n, T) from (n, k) of each family, in one transfer per device."""
        together = np.zeros((len(found[0]), len(self.names)))
        for device, positions in self._columns.items():
            here = [
                x for x, (f, _) in zip(found, self._families, strict=True) if f.device == device
            ]
            together[:, positions] = torch.cat(here, 1).cpu().numpy()
        return together

    def _rows(self) -> tuple[Floats, ...]:
        found: dict[int, Floats] = {}
        for device in self._columns:
            here = [(f, positions) for f, positions in self._families if f.device == device]
            flat = torch.cat([f.row_max.flatten() for f, _ in here]).cpu().double().numpy()
            place = 0
            for family, positions in here:
                for position in positions:
                    length = family.row_max.shape[1]
                    found[position] = flat[place : place + length]
                    place += length
        return tuple(found[i] for i in range(len(self.names)))


@dataclass
class _Observed:
    """The gradients that the next step will use."""

    families: list[tuple[Tensor, Tensor] | None]
    present: Flags


@dataclass
class _Step:
    """A step whose measurements are still on the devices."""

    columns: dict[torch.device, Tensor]  # (9 or 10, T of the device)
    present: Flags
    rate: Floats
    undone: Tensor | None  # not zero where the scaler took the step back


def _closure(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], Any] | None:
    """The closure of ``step(closure)``; torch's hooks get the optimizer as first of ``args``."""
    return kwargs.get("closure") or next((one for one in args if callable(one)), None)
