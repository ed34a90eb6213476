"""Hugging Face detectors that find what a text names: Grounding DINO, MM Grounding DINO, OWL-ViT,
OWLv2 and OmDet-Turbo, asked for a list of classes.

Grounding DINO reads all classes in one text ("cat . dog ."), and tells for each query how well it
fits each token. The score of a class is the mean over its tokens, and the best 300 pairs of query
and class are the detections, as in its authors' evaluation on COCO (IDEA-Research/GroundingDINO,
``demo/test_ap_on_coco.py``) and MMDetection's. OWL-ViT reads a text for each class ("a photo of a
cat"), and a query has the class that it fits best, as its image processor says. OmDet-Turbo reads
the name of each class, and all of them in a task ("Detect cat, dog."); of its best pairs of query
and class, as many as queries, those go that overlap a better one of their class, as its processor
says.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablate_kit import text as safe
from ablate_kit.checkpoints.told import tell
from ablate_kit.errors import UserError
from ablate_kit.metrics.boxes import iou
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import Prepared
from ablate_kit.models.frameworks.hugging_face.hf_folder import as_user_error
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import TransformersAdapter
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.labels.classes import NO_CLASS
from detector.data.dataset import Pixels
from detector.fetch import fetched

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
_SELECTED = 300  # detections of an image at least
_OVERLAP = 0.5  # IoU, of detections of which one goes, in OmDet-Turbo's processor
_END = 1012  # the token "." that ends a phrase, by which the network keeps phrases apart


@dataclass(frozen=True, eq=False)
class Prompt:
    """Classes as the network reads them.

    Attributes:
        names: of all classes, some of which may be none (``NO_CLASS``).
        asked: numbers of those that are asked for.
        inputs: (1, ...) tensors.
        shares: (asked, tokens), the share of each token in a class, where all are in one text.
    """

    names: tuple[str, ...]
    asked: tuple[int, ...]
    inputs: Mapping[str, torch.Tensor]
    shares: torch.Tensor | None = None


def prompt(
    transformers: Any, config: Any, folder: Path, names: Sequence[str], options: Mapping[str, Any]
) -> Prompt:
    """Raises ``UserError`` where there are no classes, or more than the network reads."""
    asked = tuple(i for i, name in enumerate(names) if name != NO_CLASS)
    if not asked:
        raise UserError(
            f"{folder} finds what it is asked for; say what with --class-names FILE (class_names "
            "in a recipe's model): one class to a line, or the data's COCO annotations"
        )
    if not any((folder / name).exists() for name in _TOKENIZERS):
        raise UserError(
            f"{folder} has no {' or '.join(_TOKENIZERS)}, which says how texts are read; copy the "
            "tokenizer's files from the model that this one was trained from"
        )
    with as_user_error(folder, "the tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    words = [_word(names[i]) for i in asked]
    if hasattr(config, "max_text_len"):
        inputs, shares = _one_text(tokenizer, words, config.max_text_len, folder)
        return Prompt(tuple(names), asked, inputs, shares)
    if config.model_type in ("owlvit", "owlv2"):
        longest = config.text_config.max_position_embeddings
        texts = [f"a photo of a {word}" for word in words]
        return Prompt(tuple(names), asked, _each(tokenizer, texts, words, longest, folder))
    if config.model_type == "omdet-turbo":
        longest = config.text_config.max_position_embeddings
        return Prompt(tuple(names), asked, _classes_and_task(tokenizer, words, longest, folder))
    raise UserError(
        f"{folder} holds a model of type {config.model_type}; of detectors that find what a text "
        "names, grounding-dino, mm-grounding-dino, omdet-turbo, owlvit and owlv2 are known here"
    )


def _word(name: str) -> str:
    """A class in small letters, without what ends a phrase."""
    word = " ".join(re.sub(r"[.?]", " ", name.lower()).split())
    if not word:
        raise UserError(f"the class {safe.name(name)} has no letters to ask for")
    return word


def _one_text(
    tokenizer: Any, words: Sequence[str], longest: int, folder: Path
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    if tokenizer.convert_tokens_to_ids(".") != _END:
        raise UserError(
            f'{folder}: the tokenizer is not BERT\'s ("." is not {_END}), by whose numbers the '
            "network keeps classes apart"
        )
    encoded = dict(
        tokenizer(" . ".join(words) + " .", return_offsets_mapping=True, return_tensors="pt")
    )
    starts, numbers = encoded.pop("offset_mapping")[0], encoded["input_ids"][0]
    count = len(starts)
    if count > longest:
        raise UserError(
            f"{len(words)} classes are {count} tokens, and {folder} reads {longest}: give fewer "
            "with --class-names"
        )
    shares = torch.zeros(len(words), count, dtype=torch.float64)
    at, read = 0, []
    for row, word in enumerate(words):
        inside = (starts[:, 0] >= at) & (starts[:, 1] <= at + len(word))
        inside &= starts[:, 0] < starts[:, 1]
        read.append(numbers[inside].tolist())
        if not read[row]:
            raise UserError(
                f"the tokenizer of {folder} reads nothing in the class {safe.name(word)}"
            )
        shares[row, inside] = 1 / len(read[row])
        at += len(word) + 3
    _tell_of_unread(words, read, tokenizer.unk_token_id, folder)
    return encoded, shares


def _classes_and_task(
    tokenizer: Any, words: Sequence[str], longest: int, folder: Path
) -> dict[str, torch.Tensor]:
    classes = _each(tokenizer, words, words, longest, folder)
    task = [f"Detect {', '.join(words)}."]
    if (count := len(tokenizer(task)["input_ids"][0])) > longest:
        tell(
            f"{folder} reads the first {longest} of {count} tokens of its task, which names all "
            "classes; each class is read whole, too"
        )
    cut = {"padding": "max_length", "truncation": True, "max_length": longest}
    tasks = tokenizer(task, return_tensors="pt", **cut)
    return {
        **{f"classes_{name}": one for name, one in classes.items()},
        **{f"tasks_{name}": tasks[name][None] for name in classes},
        "classes_structure": torch.tensor([[len(words)]]),
    }


def _each(
    tokenizer: Any, texts: Sequence[str], words: Sequence[str], longest: int, folder: Path
) -> dict[str, torch.Tensor]:
    """A text for each class."""
    read = tokenizer(list(texts))["input_ids"]
    if (count := max(map(len, read))) > longest:
        raise UserError(f"the name of a class is {count} tokens, and {folder} reads {longest}")
    # What is unknown ends the text there, too: one such token is the end itself.
    _tell_of_unread(words, [one[:-1] for one in read], tokenizer.unk_token_id, folder)
    encoded = tokenizer(list(texts), padding="max_length", max_length=longest, return_tensors="pt")
    return {name: encoded[name][None] for name in ("input_ids", "attention_mask")}


def _tell_of_unread(
    words: Sequence[str], read: Sequence[Sequence[int]], unknown: int | None, folder: Path
) -> None:
    """Says of which classes the network is asked for something else than their names."""
    alike: dict[tuple[int, ...], int] = {}
    for number, tokens in enumerate(read):
        name = safe.name(words[number])
        if unknown in tokens:
            tell(
                f"the tokenizer of {folder} does not know all of the class {name}: what it finds "
                "for it means little"
            )
        first = alike.setdefault(tuple(tokens), number)
        if first != number:
            tell(
                f"{folder} reads the classes {safe.name(words[first])} and {name} alike, and "
                "cannot tell one from the other"
            )


class _Forgetful:
    """In place of what OmDet-Turbo remembers of texts that it read, with whatever weights."""

    def has(self, key: object) -> bool:
        return False

    def put(self, key: object, value: object) -> None:
        pass


class OpenVocabularyAdapter(TransformersAdapter):
    def __init__(
        self,
        module: Any,
        processor: Any,
        live: Mapping[str, tuple[str, ...]],
        device: str,
        prompt: Prompt,
    ) -> None:
        super().__init__(module, processor, live, device)
        self.classes = prompt.names
        self._prompt = prompt
        if hasattr(module, "language_cache_class"):
            module.language_cache_class = module.language_cache_prompt = _Forgetful()

    def same_model(self, other: object) -> bool:
        return (
            isinstance(other, OpenVocabularyAdapter)
            and super().same_model(other)
            and self._prompt.names == other._prompt.names
        )

    def prepare(self, image: Pixels) -> Prepared:
        prepared = super().prepare(image)
        return Prepared({**prepared.inputs, **self._prompt.inputs}, prepared.origin)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        if self._prompt.shares is None:  # texts of all images, one below the other
            inputs = {
                name: one.flatten(0, 1) if name in self._prompt.inputs else one
                for name, one in inputs.items()
            }
        return super().forward(inputs)

    def decode(
        self, outputs: Any, origins: Sequence[Any], limit: int = MAX_DETECTIONS
    ) -> list[ImageDetections]:
        asked = np.array(self._prompt.asked)
        if hasattr(outputs, "decoder_class_logits"):
            parts = fetched([outputs.decoder_class_logits, outputs.decoder_coord_logits])
            return [
                _best_apart(fits.double().sigmoid().numpy(), boxes.double().numpy(), origin, asked)
                for fits, boxes, origin in zip(*parts, origins, strict=True)
            ]
        if self._prompt.shares is None:
            found = super().decode(outputs, origins, limit)
            return [
                ImageDetections(one.boxes, one.scores, asked[one.labels], one.queries)
                for one in found
            ]
        logits, boxes = fetched([outputs.logits, outputs.pred_boxes])
        shares = self._prompt.shares
        fits = logits[..., : shares.shape[1]].double().sigmoid() @ shares.T
        return [
            _best(one.numpy(), of.double().numpy(), origin, asked, max(limit, _SELECTED))
            for one, of, origin in zip(fits, boxes, origins, strict=True)
        ]


def _best(
    fits: np.ndarray, boxes: np.ndarray, origin: tuple[int, int], asked: np.ndarray, count: int
) -> ImageDetections:
    """The best pairs of a query and a class; ``fits`` is (queries, asked)."""
    order = np.argsort(-fits, axis=None, kind="stable")[:count]
    queries, labels = np.unravel_index(order, fits.shape)
    height, width = origin
    center, half = boxes[queries, :2], boxes[queries, 2:] / 2
    corners = np.concatenate([center - half, center + half], axis=1)
    return ImageDetections(
        corners * [width, height, width, height], fits.flat[order], asked[labels], queries
    )


def _best_apart(
    fits: np.ndarray, boxes: np.ndarray, origin: tuple[int, int], asked: np.ndarray
) -> ImageDetections:
    """As many of the best pairs as queries, but for those that overlap a better one of their class;
    boxes end at the image's border."""
    best = _best(fits, boxes, origin, asked, len(boxes))
    overlap = iou(best.boxes[:, None], best.boxes) > _OVERLAP
    overlap &= best.labels[:, None] == best.labels
    kept = np.ones(len(best.labels), dtype=bool)
    for i in range(len(kept)):
        if kept[i]:
            kept[i + 1 :] &= ~overlap[i, i + 1 :]
    height, width = origin
    best.boxes.clip(0, (width, height, width, height), out=best.boxes)
    return best.rows(np.flatnonzero(kept))
