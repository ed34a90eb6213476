"""Cuts that reach further than they say: tensors of the file that the model holds as one."""

from collections.abc import Iterable

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.models.adapter import Adapter


def notes_on_tied(adapter: Adapter, ablations: Iterable[Ablation]) -> list[str]:
    """A note where cuts change tensors that the model ties to others of the file, and do not name
    those; or none.

    A file may hold them as equal copies, so that its names do not tell.
    """
    state = adapter.module.state_dict(keep_vars=True)
    held: dict[int, set[str]] = {}
    places: dict[str, set[int]] = {}
    for name, live in adapter.live_names().items():
        places[name] = {id(state[one]) for one in live if one in state}
        for place in places[name]:
            held.setdefault(place, set()).add(name)
    found: dict[str, str] = {}
    for ablation in ablations:
        named = {edit.tensor for edit in ablation.edits}
        for name in sorted(named - found.keys()):
            others = {one for place in places.get(name, ()) for one in held[place]} - named
            if others:
                found[name] = min(others)
    if not found:
        return []
    name, other = next(iter(found.items()))
    if len(found) == 1:
        told = f"{name}, which is cut, is tied to {other}"
    else:
        told = f"{len(found)} tensors that are cut are tied to others, such as {name} to {other}"
    return [f"in the model {told}: what cuts one cuts both"]
