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


@dataclass(frozen=True)
class Architecture:
    """The module ``name`` beside this one, its two classes, and the modules that it imports."""

    name: str
    config: str
    model: str
    imports: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """As the module is called in a folder."""
        return f"modeling_{self.name}.py"

    @property
    def auto_map(self) -> dict[str, str]:
        module = Path(self.file).stem
        return {
            "AutoConfig": f"{module}.{self.config}",
            "AutoModelForObjectDetection": f"{module}.{self.model}",
        }

    def sources(self) -> dict[str, str]:
        """The text of each file that goes with a folder, by its name there."""
        names = {self.file: self.name} | {f"{name}.py": name for name in self.imports}
        return {
            file: Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
            for file, name in names.items()
        }

    def classes(self) -> tuple[Any, Any]:
        """Of the configuration and of the model; imports transformers, and raises ``UserError``
        where that has too few models to be made of."""
        import transformers

        try:
            module = importlib.import_module(f"{__package__}.{self.name}")
        except ImportError as error:
            raise UserError(
                f"{self.model} needs a newer transformers than {transformers.__version__}: "
                f"{str(error).partition(' (')[0]}"
            ) from error
        return getattr(module, self.config), getattr(module, self.model)


BUNDLED: Mapping[str, Architecture] = {  # by model_type
    "dino_detr": Architecture(
        "dino_detr", "DinoDetrConfig", "DinoDetrForObjectDetection", ("swin_backbone",)
    ),
    "deim_d_fine": Architecture("deim", "DeimDFineConfig", "DeimDFineForObjectDetection"),
    "deim_rt_detr_v2": Architecture("deim", "DeimRTDetrV2Config", "DeimRTDetrV2ForObjectDetection"),
    "original_deimv2": Architecture(
        "original_deimv2", "OriginalDeimv2Config", "OriginalDeimv2ForObjectDetection", ("deim",)
    ),
}


def bundled(config: Mapping[str, Any]) -> Architecture | None:
    """The one that a ``config.json`` is for; None for all others, and where other code is named."""
    kind = config.get("model_type")
    found = BUNDLED.get(kind) if isinstance(kind, str) else None
    return found if found and config.get("auto_map") == found.auto_map else None
