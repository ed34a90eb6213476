"""The kinds of ablations that a recipe may ask for; a new kind is one more line."""

from ablate_kit.ablations import (
    components,
    deep_dissect,
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
    mean.HeadsMean,
    mean.Channels,
    resample.HeadsResampled,
    scale.Scale,
    scale.Noisy,
    deep_dissect.DissectUnits,
    deep_dissect.DissectHeads,
    deep_dissect.DissectComponent,
    deep_dissect.DissectProgressive,
)
