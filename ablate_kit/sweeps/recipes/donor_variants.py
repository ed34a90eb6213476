"""Modules of another checkpoint put into a model: one by one, more and more, and in between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ablate_kit.ablations.apply_edits import in_float64
from ablate_kit.ablations.factors import Factors
from ablate_kit.ablations.kinds.donor_modules import DONOR, KIND, Patch
from ablate_kit.ablations.name_patterns import is_variance, parts_in_model
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.digest import checkpoint_digest
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.sweeps.recipes.model_section import ModelSection
from ablate_kit.sweeps.variants.taken_tensors import TakenTensor, different_tensors
from ablate_kit.sweeps.variants.variant import Variant

Taken = Mapping[str, TakenTensor]


@dataclass(frozen=True)
class Donation:
    """Variants with a donor's tensors, and what a fingerprint takes of it."""

    variants: Sequence[Variant] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)


def donation(
    line: Patch, model: Adapter, section: ModelSection, device: str, *, trust_remote_code: bool
) -> Donation:
    """``patches`` of a recipe's donor into its model, the modules in the order of
    ``module_groups``.

    Raises ``UserError`` for models that differ in more than values.
    """
    with open_checkpoint(Path(line.donor), line.donor_weights or section.weights) as checkpoint:
        donor = section.adapter(checkpoint, trust_remote_code=trust_remote_code, device=device)
        if not model.same_model(donor):
            raise UserError(
                f"the donor is no {section.checkpoint} with other weights: the models differ; "
                "ablate diff tells in what"
            )
        taken = different_tensors(model, donor)
        state = model.module.state_dict()
        groups = groups_in_the_file(model, [name for name in state if name in taken], line.depth)
        known = {"donor": checkpoint_digest(checkpoint), "donor_weights": checkpoint.place}
        return Donation(patches(state, taken, groups, line.alpha), known)


def groups_in_the_file(
    model: Adapter, names: Sequence[str], depth: int | None
) -> dict[str, list[str]]:
    """``module_groups`` by the names that ``ablate keys`` lists, each of the model's ``names``."""
    live = model.live_names()
    file_name = {place: name for name, places in live.items() for place in places}
    for name, places in parts_in_model(live).items():  # each beside the others, in its module
        file_name |= {place: f"{name}/{place.replace('.', '/')}" for place in places}
    called: dict[str, str] = {}
    for name in names:
        in_file = file_name.get(name, name)
        called[name if in_file in called else in_file] = name
    groups = module_groups(list(called), depth)
    return {module: [called[name] for name in inside] for module, inside in groups.items()}


def module_groups(names: Sequence[str], depth: int | None = None) -> dict[str, list[str]]:
    """The tensors of each module, in the order of ``names``.

    A module is the first ``depth`` levels of a name; by default the fewest levels that tell at
    least three modules apart, of which none is a tensor by itself.
    """
    if not names:
        return {}
    if depth is not None:
        return _cut(names, depth)
    deepest = max(name.count(".") for name in names)
    found = [_cut(names, levels) for levels in range(1, max(deepest, 1) + 1)]
    return next((one for one in found if len(one) >= 3), found[-1])


def _cut(names: Sequence[str], depth: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        levels = name.split(".")
        found.setdefault(".".join(levels[: max(1, min(depth, len(levels) - 1))]), []).append(name)
    return found


def patches(
    state: Mapping[str, torch.Tensor],
    donor: Taken,
    groups: Mapping[str, Sequence[str]],
    alphas: Sequence[float],
) -> list[Variant]:
    """All variants that put ``donor`` into a model of ``state``.

    The donor whole; each of its modules alone; the modules up to each one, and from each one on;
    and the line between the two models, ``state + alpha * (donor - state)``, which goes on beyond
    them. Both models are exact. On the line, what is no float is the donor's from 0.5 on. Beyond
    the two, variances of batch normalization go on by their ratio: by their difference they would
    fall below 0, and whatever is computed with them would be NaN.

    Args:
        donor: the tensors that differ, by names in ``state``.
        groups: their names, by module, in the order of the forward pass.
        alphas: on the line; 0 and 1 are there anyway.

    Raises ``UserError`` for a model that does not differ.
    """
    if not donor:
        raise UserError("the two checkpoints hold the same tensors: there is nothing to put in")
    order = list(groups)
    whole: Factors = {"alpha": 1.0}
    found = [Variant(DONOR, KIND, tensors=donor, factors=whole)]

    def take(modules: Sequence[str]) -> Taken:
        return {name: donor[name] for module in modules for name in groups[module]}

    if len(order) > 1:
        found += [
            Variant(module, KIND, tensors=take([module]), factors={"module": module})
            for module in order
        ]
    # Ends of a curve have the bytes of another variant, and are not run twice.
    for way, label in (("first", "up to"), ("last", "from")) if len(order) > 1 else ():
        for count in range(1, len(order) + 1):
            chosen = order[:count] if way == "first" else order[-count:]
            end = chosen[-1] if way == "first" else chosen[0]
            factors: Factors = {"modules": count, "of": len(order), "order": way}
            found.append(Variant(f"{label} {end}", KIND, tensors=take(chosen), factors=factors))
    for alpha in alphas:
        if alpha not in (0.0, 1.0):
            between = {
                name: TakenTensor(
                    _on_the_line(state[name], tensor.value, alpha, variance=is_variance(name))
                )
                for name, tensor in donor.items()
            }
            name = f"alpha {alpha:g}"
            found.append(Variant(name, KIND, tensors=between, factors={"alpha": alpha}))
    return found


def _on_the_line(
    here: torch.Tensor, there: torch.Tensor, alpha: float, *, variance: bool
) -> torch.Tensor:
    if not here.is_floating_point():
        return there if alpha >= 0.5 else here.clone()
    first, last = in_float64(here), in_float64(there)
    exact = first + alpha * (last - first)
    if variance and not 0 <= alpha <= 1:
        exact = torch.where(
            (first > 0) & (last > 0), first * (last / first) ** alpha, exact.clamp(0)
        )
    return exact.to(here.dtype).to(here.device)
