"""The kinds of ablations that a recipe may ask for; a new kind is one more line."""

from ablate_kit.ablations import (
    components,
    heads,
    layers,
    levels,
    points,
    queries,
    retain,
    scale,
    skip,
    units,
)
from ablate_kit.ablations.rule import Rule

RULES: tuple[type[Rule], ...] = (
    heads.HeadsEach,
    heads.HeadsChosen,
    heads.HeadsDrawn,
    retain.HeadsRetained,
    retain.HeadsCumulative,
    units.Units,
    components.Component,
    components.Modules,
    skip.Skip,
    layers.Layers,
    queries.Queries,
    levels.Levels,
    points.Points,
    points.PointLevels,
    scale.Scale,
    scale.Noisy,
)
