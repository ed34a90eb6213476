"""A checkpoint with module switches set: what ``ablate swap`` writes."""

from collections.abc import Sequence
from typing import cast, get_args

from ablate_kit.ablations.module_switches import Init, Swap, parse_switches, swap
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.rewriting.new_file_content import Content
from detector.checkpoint import layout_of, weights_metadata


def swapped(
    checkpoint: Checkpoint, switches: Sequence[str], init: str, seed: int
) -> tuple[Swap, Content]:
    """The checkpoint with ``switches`` set, as ``swap`` does it."""
    if init not in get_args(Init):
        raise UserError(f'init is "{init}"; expected {" or ".join(get_args(Init))}')
    adapter = HybridAdapter.open(checkpoint)
    before = adapter.module
    changes = parse_switches(switches, before.config)
    result = swap(before, changes, cast(Init, init), seed)
    state = result.model.state_dict()
    metadata = weights_metadata(result.model.config.to_json(), adapter.classes)
    return result, Content(layout_of(state), metadata, state.__getitem__)
