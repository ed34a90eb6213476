"""A checkpoint that is open as a detector."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.kinds.combination import Combination
from ablate_kit.ablations.kinds.donor_modules import Patch
from ablate_kit.ablations.kinds.greedy_heads import HeadsGreedy
from ablate_kit.ablations.kinds.kind import Kind, KindContext
from ablate_kit.ablations.kinds.ranked import Ranked
from ablate_kit.ablations.random_controls import random_controls
from ablate_kit.ablations.variant_files import variant_paths, write_variants
from ablate_kit.api.given import ablations_of, check_is
from ablate_kit.api.images import Images
from ablate_kit.api.keywords import by_keyword
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.hub import downloads, with_commit
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks import own_code
from ablate_kit.models.inference.device import check_device
from ablate_kit.models.labels.classes import read_class_names
from ablate_kit.models.opening.framework_registry import anatomy_of
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.opening.runnable import runnable
from ablate_kit.sweeps.recipes.model_section import ModelSection
from ablate_kit.sweeps.recipes.reference_images import ReferenceImages as Reference
from ablate_kit.sweeps.recipes.sweep_recipe import parse_kind
from detector.tensor_bytes import flat_bytes


@dataclass(frozen=True)
class Model:
    """A detector in evaluation mode, and the checkpoint that its weights are from.

    Attributes:
        path: file or folder.
        framework: as ``--model`` of the commands; None: recognized by the checkpoint.
        weights: which of a file's, if it holds several.
        adapter: prepares images, runs the module and decodes its outputs.
    """

    path: Path
    framework: str | None
    weights: str | None
    device: str
    class_names: Path | None
    adapter: Adapter
    _converted: "_Converted | None" = field(default=None, compare=False)

    def __repr__(self) -> str:
        size = sum(one.numel() for one in self.module.parameters())
        return f"<Model: {self.path}, {size:,} parameters, on {self.device}>"

    @property
    def module(self) -> nn.Module:
        """The live network."""
        return self.adapter.module

    def section(self) -> ModelSection:
        """As ``model`` of a recipe."""
        return ModelSection(
            checkpoint=fspath(self.path),
            framework=self.framework,
            weights=self.weights,
            class_names=self.class_names,
        )

    @contextmanager
    def section_beside(self, run: Path) -> Iterator[ModelSection]:
        """The same; of a file that was converted, its folder beside that of a run.

        Raises:
            UserError: the module does not have these weights any more.
        """
        if self._converted is None:
            self._check_weights(self.section())
            yield self.section()
            return
        with self.section().runnable(run, trusted=False) as section:
            self._check_weights(section)
            yield section

    @property
    def classes(self) -> tuple[str, ...]:
        return self.adapter.classes

    @by_keyword()
    def ablations(
        self, kind: str, *, images: Images | None = None, **settings: Any
    ) -> list[Ablation]:
        """Ablations of any kind that a recipe knows.

        Args:
            kind: such as ``heads-mean``; docs/sweep.md lists them.
            images: what means are taken over, for kinds that take some.
            settings: the keys of a recipe's line.

        Raises:
            UserError: an unknown kind or key, or the model has no such part; the nearest name is
                given.

        Examples:
            >>> import ablate_kit as ak
            >>> from detector.zoo import SHAPES_TINY
            >>> cuts = ak.load(SHAPES_TINY).ablations("component", pattern=["backbone.csi"])
            >>> [cut.name for cut in cuts]
            ['backbone.csi']
        """
        if images is not None:
            check_is(images, Images, "ak.coco, ak.voc, ak.yolo, ak.images or ak.shapes")
        chosen = parse_kind({"kind": kind, **settings})
        if isinstance(chosen, HeadsGreedy | Ranked):
            raise UserError(f"{kind} decides from numbers what comes next: sweep a recipe")
        if isinstance(chosen, Combination):
            raise UserError(
                f"{kind} puts together what other lines of a recipe make: sweep a recipe, or join "
                "ablations by a | b"
            )
        if isinstance(chosen, Patch):
            raise UserError(f"{kind} puts in another checkpoint's tensors: sweep a recipe")
        return self._made(chosen, images)

    def heads(self, pattern: str, *, num_heads: int | None = None) -> list[Ablation]:
        """Each attention head of the modules that a pattern names, removed alone.

        Raises:
            UserError: no attention module has such a name, or its heads cannot be told.
        """
        return self.ablations("heads", pattern=pattern, num_heads=num_heads)

    def layers(self, base: str, part: str, mode: str = "progressive") -> list[Ablation]:
        """A part of layers set to zero, of more and more layers or (``mode="each"``) of each.

        Args:
            base: what the layers' numbers follow, such as ``decoder.layers``.
            part: of a layer, such as ``cross_attn``.

        Raises:
            UserError: there is no such layer or part.
        """
        return self.ablations("layers", base=base, part=part, mode=mode)

    def modules(self, *patterns: str) -> list[Ablation]:
        """Each module that a pattern names, all its tensors set to zero.

        Raises:
            UserError: a pattern names nothing.
        """
        return self.ablations("modules", pattern=list(patterns))

    def units(
        self, pattern: str, percent: Sequence[float], *, repeats: int = 1, seed: int = 42
    ) -> list[Ablation]:
        """Random shares of the elements of tensors set to zero.

        Raises:
            UserError: no tensor has such a name, or a share is not within 0 to 100.
        """
        return self.ablations(
            "units", pattern=pattern, percent=list(percent), repeats=repeats, seed=seed
        )

    @contextmanager
    def without(self, ablation: Ablation) -> Iterator[nn.Module]:
        """``module`` with an ablation, and with its exact bytes of before after the block.

        Within a block further ones may begin, which end before it.

        Raises:
            UserError: no such tensor or elements; another thread runs or cuts the module; a block
                around took away rows of a table whose rows ``ablation`` counts.

        Examples:
            >>> import ablate_kit as ak
            >>> from detector.zoo import SHAPES_TINY
            >>> model = ak.load(SHAPES_TINY)
            >>> (cut,) = model.ablations("component", pattern=["level_embed"])
            >>> with model.without(cut) as module:
            ...     bool((module.level_embed == 0).all())
            True
        """
        (one,) = ablations_of([ablation])
        with by_keyword(), applied(self.module, one, self.adapter.live_names()):
            yield self.module

    @by_keyword()
    def write(
        self, ablations: Ablation | Sequence[Ablation], folder: str | PathLike[str]
    ) -> list[Path]:
        """A changed copy of the checkpoint for each ablation, with a receipt; returns their paths.

        Raises:
            UserError: a copy exists already, or no file can hold the ablation.
        """
        chosen = ablations_of(ablations)
        with self.section_beside(Path(folder)) as section, section.opened() as checkpoint:
            targets = variant_paths(checkpoint, chosen, Path(folder))
            write_variants(checkpoint, targets)
        return list(targets)

    def _check_weights(self, section: ModelSection) -> None:
        """Refuses a module that no longer has the checkpoint's weights, which is what the folder of
        a run says that it is about. One's own code may read them otherwise."""
        if (self.framework or "").partition(":")[0] == own_code.NAME:
            return
        state, known = self.module.state_dict(), self.adapter.live_names()
        with section.opened() as checkpoint:
            for stored in (name for name in known if known[name]):
                there = checkpoint.read(stored)
                for name in known[stored]:
                    here = state[name].cpu()
                    if not torch.equal(flat_bytes(here), flat_bytes(there.to(here.dtype))):
                        raise UserError(
                            f"{name} is not what it is in {checkpoint}, which a run's folder and "
                            "changed copies are of: save the model and load it from there, or "
                            "sweep without output"
                        )

    def _made(self, kind: Kind, images: Images | None) -> list[Ablation]:
        path, weights = self.path, self.weights
        if self._converted:
            path, weights = self._converted.path, None
        with open_checkpoint(path, weights) as checkpoint:
            opened = None if images is None else Reference(self.adapter, images.dataset)
            reference = None if opened is None else lambda: opened
            anatomy = anatomy_of(checkpoint, self.framework)
            made = kind.make(KindContext(checkpoint, reference, lambda: self.adapter, anatomy))
            return [
                one
                for ablation in made
                for one in (ablation, *random_controls(ablation, checkpoint.shapes, kind.null_cuts))
            ]


class _Converted:
    """What was made of a file, at ``path``: it is there for as long as this is."""

    def __init__(self, path: Path, held: ExitStack) -> None:
        self.path = path
        weakref.finalize(self, held.close)


@by_keyword()
def load(
    path: str | PathLike[str],
    *,
    model: str | None = None,
    weights: str | None = None,
    device: str = "cpu",
    trust_remote_code: bool = False,
    class_names: str | PathLike[str] | None = None,
    allow_download: bool = False,
) -> Model:
    """A detector with the weights of a checkpoint.

    A file of an official repository, or of MMDetection, is converted as the commands do: ablations
    name parts as transformers does. The folder that is made is gone with the model; a sweep or
    study with ``output`` and ``Model.write`` leave one beside theirs.

    Args:
        path: a file, a Hugging Face folder, or ``hf:OWNER/NAME`` of the hub. It is read as data:
            nothing in it is run.
        model: the framework, as ``--model``: ``hybrid``, ``transformers[:FOLDER]`` ...; by default
            recognized by the checkpoint.
        weights: which of the file's, if it holds several.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...
        trust_remote_code: may a folder's or configuration's own code be run?
        class_names: file of names for the model's classes, one per line.
        allow_download: may what is not in the hub's cache be downloaded?

    Raises:
        UserError: no such file, a framework that cannot be told, or weights that do not fit.

    Examples:
        >>> import ablate_kit as ak
        >>> from detector.zoo import SHAPES_TINY
        >>> model = ak.load(SHAPES_TINY)
        >>> len(model.heads("decoder.layers.*.self_attn"))
        12
    """
    check_device(device)
    names = None if class_names is None else Path(class_names)
    with downloads(allowed=allow_download), ExitStack() as stack:
        where = Path(with_commit(fspath(path)))
        given = stack.enter_context(open_checkpoint(where, weights))
        classes = read_class_names(names) if names else None
        runs = stack.enter_context(
            runnable(given, model, trusted=trust_remote_code, classes=classes)
        )
        adapter = open_adapter(
            runs, model, trust_remote_code=trust_remote_code, device=device, class_names=names
        )
        converted = None if runs is given else _Converted(runs.path, stack.pop_all())
    return Model(where, model, weights, device, names, adapter, converted)
