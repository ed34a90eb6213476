"""What others did before, element for element and number for number, so that it can be held
against what they published: the Deep Dissect tool, and the thesis notebooks of the hybrid detector.

It builds on the core, which finds it through ``registry`` alone.
"""

from collections.abc import Mapping

_DISSECT = "ablate_kit.compat.deep_dissect"
_NOTEBOOKS = "ablate_kit.compat.notebooks"

PROVIDES: Mapping[str, Mapping[str, str]] = {
    "kinds": {
        "dissect-units": f"{_DISSECT}.recipe_kinds:DissectUnits",
        "dissect-heads": f"{_DISSECT}.recipe_kinds:DissectHeads",
        "dissect-component": f"{_DISSECT}.recipe_kinds:DissectComponent",
        "dissect-progressive": f"{_DISSECT}.recipe_kinds:DissectProgressive",
    },
    "random regions": {
        "torch.randperm": f"{_DISSECT}.regions:Permuted",
        "random.sample": f"{_DISSECT}.regions:Stretches",
    },
    "result files": {"deep_dissect": f"{_DISSECT}.result_files:write_result_files"},
    "protocols": {"thesis": f"{_NOTEBOOKS}.thesis_map:protocol"},
    "gradient categories": {"notebook": f"{_NOTEBOOKS}.gradient_categories:Notebook"},
    "naming schemes": {"notebooks": f"{_NOTEBOOKS}.naming_scheme:SCHEME"},
}
