"""The kinds of ablations that a recipe may ask for; a new kind is one more line."""

from ablate_kit.ablations.kinds import (
    combination,
    components,
    donor_modules,
    feature_levels,
    greedy_heads,
    heads,
    hidden_units,
    layers,
    means,
    queries,
    ranked,
    resample,
    residual_branches,
    retain,
    sampling_points,
    scale,
    shapley,
    units,
)
from ablate_kit.ablations.kinds.kind import Kind
from ablate_kit.registry import Registry

BUILT_IN_KINDS: tuple[type[Kind], ...] = (
    heads.HeadsEach,
    heads.HeadsChosen,
    heads.RandomHeads,
    retain.HeadsRetained,
    retain.UnitsRetained,
    retain.HeadsCumulative,
    greedy_heads.HeadsGreedy,
    units.Units,
    hidden_units.HiddenUnits,
    components.Component,
    components.Modules,
    residual_branches.Skip,
    layers.Layers,
    queries.Queries,
    feature_levels.Levels,
    sampling_points.Points,
    sampling_points.PointLevels,
    means.HeadsMean,
    means.Channels,
    resample.HeadsResampled,
    scale.Scale,
    scale.Noisy,
    combination.Together,
    combination.Pairs,
    shapley.Shapley,
    ranked.Ranked,
    donor_modules.Patch,
)

KINDS: Registry[type[Kind]] = Registry(
    "kinds", {str(kind.__dataclass_fields__["kind"].default): kind for kind in BUILT_IN_KINDS}
)
"""By what a recipe calls them."""
