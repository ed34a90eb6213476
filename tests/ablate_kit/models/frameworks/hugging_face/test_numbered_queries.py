"""Which query a detection comes from, whatever a processor makes of boxes."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")
from transformers.image_transforms import center_to_corners_format

from ablate_kit.models.frameworks.hugging_face.numbered_queries import NumberedQueries, Result

SIZES = [(480, 640), (333, 91), (7, 1000)]


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 30, 5, generator=generator)
    return logits, torch.rand(3, 30, 4, generator=generator) * 2 - 0.5


def best(logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Result]:
    """The twenty best pairs of a query and a class, as RT-DETR's processor chooses."""
    scale = torch.tensor([(w, h, w, h) for h, w in sizes])
    corners = center_to_corners_format(boxes) * scale[:, None]
    scores, index = logits.sigmoid().flatten(1).topk(20)
    queries = index // logits.shape[2]
    return [
        {"scores": s, "labels": i % logits.shape[2], "boxes": c[q]}
        for s, i, c, q in zip(scores, index, corners, queries, strict=True)
    ]


def clipped(logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Result]:
    longest = torch.tensor([max(size) for size in sizes])
    found = best(logits, boxes, sizes)
    return [
        one | {"boxes": one["boxes"].clamp(max=most)}
        for one, most in zip(found, longest * 1000, strict=True)
    ]


def finite(logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Result]:
    return best(logits, boxes.nan_to_num(), sizes)


def of_corners(logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Result]:
    found = best(logits, boxes, sizes)
    scale = torch.tensor([(w, h, w, h) for h, w in sizes])
    _, index = logits.sigmoid().flatten(1).topk(20)
    for one, own, at, size in zip(found, boxes, index // logits.shape[2], scale, strict=True):
        one["boxes"] = own[at] * size
    return found


@pytest.mark.parametrize(
    ("process", "passes"), [(best, 1), (clipped, 2), (finite, 2), (of_corners, 2)]
)
def test_detections_are_the_library_s_with_their_queries(
    process: Callable[[Tensor, Tensor, Sequence[tuple[int, int]]], list[Result]], passes: int
) -> None:
    reader, counts = NumberedQueries(), []
    for seed in range(3):
        logits, boxes = drawn(seed)
        count = 0

        def read(boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Result]:
            nonlocal count
            count += 1
            return process(logits, boxes, sizes)  # noqa: B023 - it is called here

        found = reader.read(read, boxes, SIZES)
        counts.append(count)
        for one, expected, scores in zip(
            found, process(logits, boxes, SIZES), logits.sigmoid(), strict=True
        ):
            for name, value in expected.items():
                assert one[name].dtype == value.dtype
                assert torch.equal(one[name], value), name
            chosen = scores[one["queries"].long(), one["labels"]]
            assert torch.equal(chosen, one["scores"])
    assert counts == [passes + 1, passes, passes]  # the first tries what the others rely on
