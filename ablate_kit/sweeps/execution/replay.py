"""Replay of a forward pass: what ran before an ablation's first effect is not computed again.

A pass is recorded once. A pass with something changed then runs the model's own code, but every
module call that had ended before the first use of what was changed returns its recorded output.
All else is computed as always, so that the result is that of a full pass, bit for bit.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ablate_kit.models.inference.detect import device_of
from ablate_kit.models.inference.device import clock_on
from ablate_kit.sweeps.execution.first_use import FirstUseTracer
from ablate_kit.sweeps.execution.identities import CallId, Identities, Key
from ablate_kit.sweeps.execution.recorded_output import PLAIN, CachedOutput, Outputs
from ablate_kit.sweeps.execution.trace import NEVER, Call, Trace, storage_bytes, tensors_in
from ablate_kit.sweeps.execution.unchanged import layers

Run = Callable[[], Any]
Forward = Callable[..., Any]
Clock = Callable[[], float]


class CannotTraceError(Exception):
    """The model's calls cannot be seen."""


@dataclass(frozen=True)
class Repeated:
    """A pass that has all images several times over.

    Attributes:
        of_images: by call, the leaves of its output whose first axis is that of the images.
    """

    times: int
    of_images: Mapping[CallId, Collection[int]]


class Replay:
    """A model whose passes can be recorded and replayed, within a ``with`` block.

    It must be in evaluation mode and run without gradients, though not in inference mode, whose
    tensors do not tell when they are written into.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.copied: set[CallId] = set()  # calls whose output is written into later
        self.identities = Identities(module)
        self.layers: set[str] = set()
        self._pass: _Playing | None = None
        self._before: list[tuple[nn.Module, Any]] = []

    def __enter__(self) -> "Replay":
        self.identities = Identities(self.module)  # no tensor moves within the block
        self.layers = layers(self.identities.modules)
        for name, module in self.module.named_modules():
            if _is_compiled(module):
                self.__exit__(None, None, None)
                raise CannotTraceError(f"{type(module).__name__} is compiled")
            self._before.append((module, module.__dict__.get("forward")))
            module.forward = self._watched(name, module.forward)
        return self

    def __exit__(self, *exception: object) -> None:
        for module, forward in self._before:
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.forward = forward
        self._before.clear()

    def trace(self, run: Run) -> tuple[Any, Trace]:
        """What ``run`` gives, and what happened, without keeping any output.

        A GPU is waited for before and after each call, so that the time is that of the call.
        """
        return self.record(run, keep=(), clock=clock_on(device_of(self.module)))

    def record(
        self,
        run: Run,
        keep: Collection[CallId],
        base: Trace | None = None,
        changed: Iterable[Key] = (),
        until: float = NEVER,
        clock: Clock = perf_counter,
    ) -> tuple[Any, Trace]:
        """What ``run`` gives, and a trace with the outputs of the calls at ``keep``.

        The pass itself replays ``base`` up to the first use of ``changed``, or the tick ``until``.
        """
        while True:
            recording = _Recording(self, keep, base, frozenset(changed), until, clock)
            with recording.uses:
                result = self._run(run, recording)
            recording.root.end = recording.uses.tick + 1
            recording.root.structure = pytree.tree_structure(result)
            if base is not None:
                self._drop_spoilt(recording.taken, base.outputs, recording.outputs)
            if not self._drop_spoilt(recording.stored, recording.outputs):
                return result, recording.trace()

    def replay(
        self,
        run: Run,
        base: Trace,
        changed: Iterable[Key],
        repeated: Repeated | None = None,
        until: float = NEVER,
    ) -> Any:
        """What ``run`` gives, of a model that differs from that of ``base`` in ``changed``, or
        from the tick ``until`` on. ``repeated``: ``run`` has the images of ``base`` several times.
        """
        playing = _Playing(base, frozenset(changed), until, repeated)
        result = self._run(run, playing)
        self._drop_spoilt(playing.taken, base.outputs)
        return result

    def _drop_spoilt(self, calls: Iterable[CallId], *stores: Outputs) -> bool:
        """Forgets outputs that the pass wrote into: it may do so, but others must not see that."""
        kept = {call: stores[0].get(call) for call in calls}
        overwritten = [call for call, output in kept.items() if output and not output.intact]
        for call in overwritten:
            for store in stores:
                store.pop(call, None)
            self.copied.add(call)
        return bool(overwritten)

    def _run(self, run: Run, what: "_Playing") -> Any:
        self._pass = what
        try:
            return run()
        finally:
            self._pass = None

    def _watched(self, module: str, forward: Forward) -> Forward:
        @wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            current = self._pass
            if current is None:
                return forward(*args, **kwargs)
            return current.call(module, forward, args, kwargs)

        return watched


def _is_compiled(module: nn.Module) -> bool:
    """By TorchScript, by ``torch.compile``, or by its own method ``compile``."""
    return (
        isinstance(module, torch.jit.ScriptModule)
        or "_orig_mod" in module._modules
        or module._compiled_call_impl is not None
    )


class _Playing:
    """A pass that follows a recorded one up to ``restart``."""

    def __init__(
        self,
        base: Trace | None,
        changed: frozenset[Key],
        until: float,
        repeated: Repeated | None = None,
    ) -> None:
        self.restart = min(base.restart(changed), until) if base else NEVER
        self.taken: list[CallId] = []
        self._repeated = repeated
        self._kept = base.outputs if base else None
        self._layers = base.layers if base and not repeated else None
        self._changed = changed | base.changed if base else changed
        self._unchanged = self._layers.but(self._changed) if self._layers else None
        self._open = base.root if base else None  # the recorded call that runs again right now
        self._at = 0  # how many of its children have been met

    def call(self, module: str, forward: Forward, args: Any, kwargs: Any) -> Any:
        known = self.follow(module)
        if known is None:
            return self.computed(module, forward, args, kwargs)
        if (output := self.output_of(known)) is not None:
            if self._repeated is None:
                return output.value()
            return output.repeated(self._repeated.times, self._repeated.of_images[known.id])
        with_parent = self.enter(known)
        result = self.computed(module, forward, args, kwargs)
        self.leave(known, with_parent)
        return result

    def computed(self, module: str, forward: Forward, args: Any, kwargs: Any) -> Any:
        """What the call gives, run but where its input is known to have given it."""
        unchanged = self._unchanged
        if unchanged is None or module not in unchanged.names:
            return forward(*args, **kwargs)
        result = unchanged.recall(module, args, kwargs)
        if result is None:
            result = forward(*args, **kwargs)
            unchanged.note(module, args, kwargs, result)
        return result

    def output_of(self, known: Call) -> CachedOutput | None:
        """What stands for a recorded call that ended before anything differs, where it is kept."""
        if self._kept is None or known.end >= self.restart:
            return None
        output = self._kept.get(known.id)
        if output is not None:
            self.taken.append(known.id)
        return output

    def follow(self, module: str) -> Call | None:
        """The recorded call that this one is, as long as nothing has changed."""
        if self._open is None:
            return None
        children = self._open.children
        known = children[self._at] if self._at < len(children) else None
        if known is None or known.id.module != module or known.start >= self.restart:
            self._open = None  # from here on everything is computed
            return None
        self._at += 1
        return known

    def enter(self, known: Call | None) -> tuple[Call | None, int]:
        parent = self._open, self._at
        if known is not None:
            self._open, self._at = known, 0
        return parent

    def leave(self, known: Call | None, parent: tuple[Call | None, int]) -> None:
        if known is not None and self._open is not None:
            self._open, self._at = parent if known.end < self.restart else (None, 0)


class _Recording(_Playing):
    """A pass that is itself recorded."""

    def __init__(
        self,
        replay: Replay,
        keep: Collection[CallId],
        base: Trace | None,
        changed: frozenset[Key],
        until: float,
        clock: Clock,
    ) -> None:
        super().__init__(base, changed, until)
        self.uses = FirstUseTracer(replay.identities)
        self.root = Call(CallId("", -1), 0)
        self.stored: list[CallId] = []
        self.outputs: Outputs = {}
        self._base = base
        self._keep = keep
        self._clock = clock
        self._copied = replay.copied
        self._followed = replay.layers
        self._parent = self.root
        self._counts: Counter[str] = Counter()  # of the calls of each module so far

    def call(self, module: str, forward: Forward, args: Any, kwargs: Any) -> Any:
        known = self.follow(module)
        parent = self._parent
        if known is not None and (output := self.output_of(known)) is not None:
            parent.children.append(known)
            self.outputs[known.id] = output
            self.uses.tick = int(known.end)
            self._counts.update(one.id.module for one in known.all())
            return output.value()
        call = Call(CallId(module, self._counts[module]), self.uses.starts(module))
        self._counts[module] += 1
        parent.children.append(call)
        inputs = tensors_in((args, kwargs))
        given = [(tensor, tensor._version) for tensor in inputs]
        if module in self._followed:
            call.given, call.depends = storage_bytes(inputs), self.uses.depends(inputs)
        self._parent, open_before = call, self.enter(known)
        began = self._clock()
        result = self.computed(module, forward, args, kwargs)
        self.leave(known, open_before)
        self._parent = parent
        call.seconds = self._clock() - began
        leaves, call.structure = pytree.tree_flatten(result)
        outputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        call.end = self.uses.ends(module, inputs, outputs)
        call.nbytes = storage_bytes(outputs)
        call.is_pure = all(tensor._version == version for tensor, version in given) and all(
            isinstance(leaf, (torch.Tensor, *PLAIN)) for leaf in leaves
        )
        if call.is_pure and call.id in self._keep:
            self.outputs[call.id] = CachedOutput.of(result, copies=call.id in self._copied)
            self.stored.append(call.id)
        return result

    def trace(self) -> Trace:
        first_use = self.uses.first_use()
        if self._base is not None:
            # What the replayed part used, it used then.
            early = self._base.first_use.items()
            first_use |= {key: tick for key, tick in early if tick < self.restart}
        return Trace(self.root, first_use, self.outputs, self._layers, self._changed)
