"""The frameworks by name: those that are built in, those of installed packages, and one's own code.

A framework is one file with a ``Framework``, and a line here or, in another package, an entry point
of the group ``ablate_kit.adapters`` (``toy = toy_detectors:FRAMEWORK``).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate_kit.anatomy.anatomy import USUAL, Anatomy
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.formats.folder_contents import weights_in
from ablate_kit.checkpoints.hub import is_hub_id
from ablate_kit.checkpoints.located import located
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.models.bridge.official.families import family_of
from ablate_kit.models.framework import Framework
from ablate_kit.models.frameworks import own_code
from ablate_kit.models.frameworks.source_files import check_configurations
from ablate_kit.models.unsupported.known_elsewhere import GUIDE, OWN, refuse_known_elsewhere
from ablate_kit.models.unsupported.number_types import check_number_types, refuse_unreadable
from ablate_kit.models.unsupported.recognized_inside import refuse_if_inside
from ablate_kit.plural import first_few
from ablate_kit.registry import Registry

BUILT_IN = {
    "hybrid": "ablate_kit.models.frameworks.hybrid_detector.hybrid:FRAMEWORK",
    "transformers": "ablate_kit.models.frameworks.hugging_face.transformers:FRAMEWORK",
    "mmdet": "ablate_kit.models.frameworks.mmdet:FRAMEWORK",
    "libreyolo": "ablate_kit.models.frameworks.libreyolo:FRAMEWORK",
    "torchvision": "ablate_kit.models.frameworks.torchvision:FRAMEWORK",
}
FRAMEWORKS: Registry[Framework] = Registry("adapters", places=BUILT_IN)

# For --help, which waits for no import of a framework; a test compares it with their own words.
USAGE = (
    "hybrid, transformers[:FOLDER], mmdet[:CONFIG.py], libreyolo[:FAMILY[:SIZE]], "
    "torchvision[:NAME]"
)


@dataclass(frozen=True)
class Chosen:
    """A framework, by what ``--model`` says or by the checkpoint."""

    model: str  # as ``--model`` would say it
    framework: Framework
    place: str = ""


def choose(checkpoint: Checkpoint, model: str | None = None) -> Chosen:
    """The framework that ``--model`` says, or that recognizes the checkpoint.

    Raises:
        UserError: there is none of that name, or it cannot be told.
    """
    if model:
        return _named(model)
    if found := recognized(checkpoint):
        return found
    broken = [f"; {error}" for _, error in _frameworks() if isinstance(error, UserError)]
    if family := family_of(checkpoint):
        raise UserError(
            f"{checkpoint.path} is a file of {family}; ablate convert {checkpoint.path} "
            "--to transformers -o FOLDER makes a folder of it that opens"
        )
    refuse_unreadable(checkpoint)
    check_number_types(checkpoint)
    refuse_if_inside(checkpoint, lambda inside: bool(family_of(inside) or recognized(inside)))
    refuse_known_elsewhere(checkpoint, "".join(broken))
    # As short as it is: of an error that is too long for a line the middle is left out.
    without = " without config.json" if checkpoint.folder else ""
    raise UserError(
        f"{checkpoint.path}{without} is of no framework that is recognized; give --model "
        "transformers:FOLDER (with its config), mmdet:CONFIG.py, libreyolo (official files "
        f"of YOLOX, RTMDet ...) or {OWN} ({GUIDE}){''.join(broken)}{_beside(checkpoint)}"
    )


def _beside(checkpoint: Checkpoint) -> str:
    """Files of a folder that hold weights, too."""
    if checkpoint.folder is None:
        return ""
    taken = {one.name for one in checkpoint.archive.files}
    others = [one for one in weights_in(checkpoint.folder) if one not in taken]
    return f"; checkpoints beside it: {first_few(others, 4)}" if others else ""


def recognized(checkpoint: Checkpoint) -> Chosen | None:
    """The framework that recognizes a checkpoint as it is, if any."""
    for name, framework in _frameworks():
        if not isinstance(framework, UserError) and framework.recognizes(checkpoint):
            return Chosen(name, framework)
    return None


def anatomy_of(checkpoint: Checkpoint, model: str | None = None) -> Anatomy:
    """Where the parts of a checkpoint are: as the framework that ``--model`` says has them, or an
    installed package that recognizes the checkpoint.

    Those that are built in keep to the usual names, so that none of them (nor torch) is imported to
    cut a checkpoint.
    """
    if model:
        return _named(model).framework.anatomy
    for _, framework in _frameworks(name for name in FRAMEWORKS if name not in BUILT_IN):
        if not isinstance(framework, UserError) and framework.recognizes(checkpoint):
            return framework.anatomy
    return USUAL


def check_model(model: str | None) -> None:
    """Raises ``UserError`` where ``--model`` begins with no framework's name, or names a file that
    is not there; imports no framework."""
    name, _, place = (model or own_code.NAME).partition(":")
    if name != own_code.NAME and name not in FRAMEWORKS:
        near = did_you_mean(name, [*FRAMEWORKS, own_code.NAME])
        raise UserError(f'unknown model "{model}"; expected {_expected()}{near}')
    if place and name in _CHECKS:
        _CHECKS[name](place)


def _check_folder(place: str) -> None:
    if not is_hub_id(Path(place)) and not (located(Path(place)) / "config.json").is_file():
        raise UserError(f"{place} has no config.json")


def takes_a_file(name: str) -> bool:
    """Whether a file or folder may follow a framework's name."""
    return name in _CHECKS or name not in BUILT_IN


_CHECKS: dict[str, Callable[[str], object]] = {
    "transformers": _check_folder,
    "mmdet": lambda place: check_configurations(Path(place)),
    own_code.NAME: own_code.check_file,
}


def packages_of(models: Iterable[str]) -> tuple[str, ...]:
    """Whose versions change bits of what models of these frameworks give, each once; none of one's
    own code."""
    names = [one.partition(":")[0] for one in models]
    known = [FRAMEWORKS[name] for name in names if name in FRAMEWORKS]
    return tuple(dict.fromkeys(package for one in known for package in one.packages))


def _named(model: str) -> Chosen:
    name, _, place = model.partition(":")
    if name == own_code.NAME:
        return Chosen(model, own_code.framework(place))
    check_model(model)
    framework = FRAMEWORKS[name]
    if place and not framework.takes:
        raise UserError(f'unknown model "{model}": nothing follows "{name}"')
    return Chosen(model, framework, place)


def _expected() -> str:
    added = [
        name if isinstance(one, UserError) else f"{name}{one.takes}"
        for name, one in _frameworks(name for name in FRAMEWORKS if name not in BUILT_IN)
    ]
    return f"{', '.join([USAGE, *added])} or {OWN}"


def _frameworks(names: Iterable[str] = FRAMEWORKS) -> Iterator[tuple[str, Framework | UserError]]:
    """These, one by one; in place of one that is broken, which is in no other's way, what is."""
    for name in names:
        try:
            yield name, FRAMEWORKS[name]
        except UserError as error:
            yield name, error
