"""The kinds of ablations that a recipe may ask for; a new kind is one more line."""

from ablate_kit.ablations import (
    components,
    greedy,
    heads,
    layers,
    levels,
    mean,
    points,
    queries,
    resample,
    retain,
    scale,
    skip,
    together,
    units,
)
from ablate_kit.ablations.rule import Rule
from ablate_kit.registry import Registry

RULES: tuple[type[Rule], ...] = (
    heads.HeadsEach,
    heads.HeadsChosen,
    heads.HeadsDrawn,
    retain.HeadsRetained,
    retain.UnitsRetained,
    retain.HeadsCumulative,
    greedy.HeadsGreedy,
    units.Units,
    components.Component,
    components.Modules,
    skip.Skip,
    layers.Layers,
    queries.Queries,
    levels.Levels,
    points.Points,
    points.PointLevels,
    mean.HeadsMean,
    mean.Channels,
    resample.HeadsResampled,
    scale.Scale,
    scale.Noisy,
    together.Together,
)

KINDS: Registry[type[Rule]] = Registry(
    "kinds", {str(rule.__dataclass_fields__["kind"].default): rule for rule in RULES}
)
"""By what a recipe calls them."""
