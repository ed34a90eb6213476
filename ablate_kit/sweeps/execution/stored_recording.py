"""A recorded pass as a file: its calls, when each tensor was first used, and some outputs.

Nothing that a file names is looked up or called. A structure of values (a tuple, a framework's own
class) is not stored: it is taken from a pass of this process, and must be described alike.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils import _pytree as pytree

from ablate_kit.sweeps.execution.identities import CallId, Key
from ablate_kit.sweeps.execution.recorded_output import CachedOutput, Outputs, once
from ablate_kit.sweeps.execution.trace import Call, Trace
from detector.disk.lines import KEY_DIGITS, key_of
from detector.tensor_bytes import tensor_digest

RESULT = CallId("", -1)  # what the whole pass gives
Structures = Mapping[CallId, Any]

_ABOUT = "recording"  # in the file's metadata, whose keys come in no order
_PLAIN = (int, float, bool, str, type(None))


@dataclass(frozen=True)
class StoredRecording:
    """What is read of a file.

    Attributes:
        trace: with the outputs that were asked for and are there.
        weights: the digest of each tensor of the model that was recorded.
        result: what the pass gave, alone in a tuple; None where that could not be stored.
    """

    trace: Trace
    weights: Mapping[Key, str]
    result: tuple[Any] | None

    @property
    def held(self) -> set[CallId]:
        return {one.id for one in self.trace.root.all() if self.trace.outputs.get(one.id)}


def encode(
    trace: Trace,
    result: Any,
    keep: Collection[CallId],
    weights: Mapping[Key, str],
    before: Path | None = None,
) -> bytes:
    """The file of a pass with its outputs of ``keep``, and with those that the file ``before``
    has of the same pass."""
    tensors: dict[str, Tensor] = {}
    calls: list[dict[str, Any]] = []
    if before is not None:
        with safe_open(before, "pt") as file:
            calls = read_signed(file.metadata()[_ABOUT])["calls"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    there = {CallId(*one["id"]) for one in calls}
    outputs = [(call, trace.outputs.get(call)) for call in sorted(keep) if call not in there]
    if RESULT not in there:
        outputs.append((RESULT, CachedOutput.of(result, copies=False)))
    for call, output in outputs:
        leaves = output and _encoded(output.leaves, f"{len(calls)}", tensors)
        if output and leaves is not None:
            calls.append(
                {
                    "id": list(call),
                    "copies": output.copies,
                    "structure": _described(output.structure),
                    "leaves": leaves,
                }
            )
    about = {
        "calls": calls,
        "tree": _tree(trace.root),
        "first_use": [[*key, tick] for key, tick in trace.first_use.items()],
        "weights": [[*key, digest] for key, digest in weights.items()],
    }
    return safetensors.torch.save(tensors, {_ABOUT: signed(about)})


def decode(
    path: Path, wanted: Collection[CallId], structures: Structures, device: torch.device
) -> StoredRecording:
    """Raises some ``Exception`` for a file that is damaged, or is none of ours."""
    with safe_open(path, "pt") as file:
        about = read_signed(file.metadata()[_ABOUT])
        root = _call(about["tree"])
        first_use: dict[Key, float] = {
            (kind, name): tick for kind, name, tick in about["first_use"]
        }
        weights: dict[Key, str] = {(kind, name): digest for kind, name, digest in about["weights"]}
        outputs: Outputs = {}
        result = None
        for one in about["calls"]:
            call = CallId(*one["id"])
            structure = structures.get(call)
            if structure is None or _described(structure) != one["structure"]:
                continue
            if call != RESULT and call not in wanted:
                continue
            leaves = [_decoded(leaf, file, device) for leaf in one["leaves"]]
            if call == RESULT:
                result = (pytree.tree_unflatten(leaves, structure),)
            else:
                versions = [leaf._version for leaf in leaves if isinstance(leaf, Tensor)]
                outputs[call] = CachedOutput(leaves, structure, versions, bool(one["copies"]))
    return StoredRecording(Trace(root, first_use, outputs), weights, result)


def _encoded(
    leaves: Sequence[Any], name: str, tensors: dict[str, Tensor]
) -> list[dict[str, Any]] | None:
    """None where something among them cannot be stored."""
    found: list[dict[str, Any]] = []
    new: dict[str, Tensor] = {}
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            if leaf.layout != torch.strided or leaf.is_quantized or leaf.is_complex():
                return None
            key = f"{name}.{len(new)}"
            new[key] = once(leaf).cpu().contiguous().clone()
            found.append(
                {
                    "tensor": key,
                    "shape": list(leaf.shape),
                    # Kernels are chosen by how a tensor lies in memory.
                    "stride": list(leaf.stride()),
                    "digest": tensor_digest(new[key]),
                }
            )
        elif isinstance(leaf, torch.Size):
            found.append({"size": list(leaf)})
        elif isinstance(leaf, _PLAIN):
            found.append({"value": leaf})
        else:
            return None
    tensors |= new
    return found


def _decoded(leaf: Mapping[str, Any], file: Any, device: torch.device) -> Any:
    if "value" in leaf:
        return leaf["value"]
    if "size" in leaf:
        return torch.Size(leaf["size"])
    stored = file.get_tensor(leaf["tensor"])
    if tensor_digest(stored) != leaf["digest"]:
        raise ValueError("its bytes are not those that were written")
    shape, stride = leaf["shape"], leaf["stride"]
    placed = torch.empty_strided(stored.shape, stride, dtype=stored.dtype, device=device)
    return placed.copy_(stored).expand(shape)


def signed(value: Any) -> str:
    """What a file tells beside its tensors, as JSON behind a digest of that."""
    told = json.dumps(value)
    return key_of(told) + told


def read_signed(text: str) -> Any:
    """The same value; raises ``ValueError`` where these are not the bytes that were written."""
    digest, told = text[:KEY_DIGITS], text[KEY_DIGITS:]
    if digest != key_of(told):
        raise ValueError("its bytes are not those that were written")
    return json.loads(told)


def _described(structure: Any) -> str:
    return key_of(str(structure))


def _tree(call: Call) -> list[Any]:
    children = [_tree(child) for child in call.children]
    sizes = [call.nbytes, call.given, call.depends]
    return [*call.id, call.start, call.end, call.is_pure, sizes, children]


def _call(told: Sequence[Any]) -> Call:
    module, number, start, end, pure, (nbytes, given, depends), children = told
    return Call(
        CallId(str(module), int(number)),
        int(start),
        float(end),
        [_call(child) for child in children],
        int(nbytes),
        int(given),
        float(depends),
        is_pure=bool(pure),
    )
