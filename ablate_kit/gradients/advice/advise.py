"""All advice on a run."""

from ablate_kit.gradients.advice.advice import Advice
from ablate_kit.gradients.advice.of_constants import of_constants
from ablate_kit.gradients.advice.of_training import (
    of_clipping,
    of_frozen,
    of_rates,
    of_steps,
    of_terms,
    of_thawed,
)
from ablate_kit.gradients.advice.of_verdicts import RULES
from ablate_kit.gradients.advice.words import called
from ablate_kit.gradients.attribution import Attribution
from ablate_kit.gradients.diagnose import Diagnosis


def advise(diagnosis: Diagnosis, attribution: Attribution | None = None) -> list[Advice]:
    """Advice in order of precedence of the verdicts; tensors with one cause share a sentence."""
    found = [*of_steps(diagnosis), *of_clipping(diagnosis), *of_constants(diagnosis)]
    harmless = {name for one in found for name in one.tensors}
    for verdict, rule in RULES.items():
        tensors = [t for t in diagnosis.of(verdict) if t.name not in harmless]
        if tensors:
            found += [Advice(verdict, text, called(some)) for text, some in rule(tensors)]
    if attribution is not None:
        found += of_terms(attribution)
    return [*found, *of_rates(diagnosis), *of_thawed(diagnosis), *of_frozen(diagnosis)]
