"""Architectures that come with this project, as models of transformers.

The files of each go with the folders that are made of it, so that transformers opens them without
this project (``trust_remote_code=True``). Here the class comes from this project, whatever the
folder's file says; so such a folder needs no trust.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.import_errors import broken_package

_AUTO = "AutoModelForObjectDetection"


@dataclass(frozen=True)
class Architecture:
    """The module ``name`` beside this one, its two classes, and the modules that it imports. In a
    folder all are called as they are here, which is how transformers, too, copies them."""

    name: str
    config: str
    model: str
    imports: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return f"{self.name}.py"

    @property
    def auto_map(self) -> dict[str, str]:
        return {"AutoConfig": f"{self.name}.{self.config}", _AUTO: f"{self.name}.{self.model}"}

    def sources(self) -> dict[str, str]:
        """The text of each file that goes with a folder, by its name."""
        names = [f"{name}.py" for name in (self.name, *self.imports)]
        return {name: Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names}

    def classes(self) -> tuple[Any, Any]:
        """Of the configuration and of the model, whose ``save_pretrained`` writes the files, too.

        Imports transformers, and raises ``UserError`` where that has too few models for them.
        """
        import transformers

        try:
            module = importlib.import_module(f"{__package__}.{self.name}")
        except ImportError as error:
            lacks = f"{self.model} needs a newer transformers than {transformers.__version__}"
            raise UserError(
                broken_package(error, self.model) or f"{lacks}: {str(error).partition(' (')[0]}"
            ) from error
        config, model = getattr(module, self.config), getattr(module, self.model)
        config.register_for_auto_class()
        model.register_for_auto_class(_AUTO)
        return config, model


BUNDLED: Mapping[str, Architecture] = {  # by model_type
    "dino_detr": Architecture(
        "modeling_dino_detr", "DinoDetrConfig", "DinoDetrForObjectDetection", ("swin_backbone",)
    ),
    "deim_d_fine": Architecture("modeling_deim", "DeimDFineConfig", "DeimDFineForObjectDetection"),
    "deim_rt_detr_v2": Architecture(
        "modeling_deim", "DeimRTDetrV2Config", "DeimRTDetrV2ForObjectDetection"
    ),
    "original_deimv2": Architecture(
        "modeling_original_deimv2",
        "OriginalDeimv2Config",
        "OriginalDeimv2ForObjectDetection",
        ("modeling_deim",),
    ),
}


def bundled(config: Mapping[str, Any]) -> Architecture | None:
    """The one that a ``config.json`` is for; None for all others, and where other code is named."""
    kind = config.get("model_type")
    found = BUNDLED.get(kind) if isinstance(kind, str) else None
    return found if found and config.get("auto_map") == found.auto_map else None
