"""Queries from proposals, peaks and grids."""

import pytest
import torch

from detector.config import HybridConfig, preset
from detector.network.model import HybridDetector
from detector.network.modules.query_selection import Seeds, _grid, _peaks, _sample, allocate
from detector.network.queries import Queries

SMALL = preset("tiny").replace(num_classes=3, image_size=64, d_model=32, queries=12)
SHAPES = [(2, 2), (4, 4), (8, 8), (16, 16)]


def test_seeds_are_shared_out_as_in_the_thesis() -> None:
    cells = [15 * 15 * 4, 60 * 60, 120 * 120]  # p5, p4, p3 at 480 pixels
    # Measured on the thesis' code.
    assert allocate(36, cells) == [2, 7, 27]
    assert allocate(24, cells) == [1, 5, 18]


@pytest.mark.parametrize("count", range(0, 90, 7))
def test_no_level_gets_more_seeds_than_cells(count: int) -> None:
    shares = allocate(count, [4, 16, 64])
    assert sum(shares) == count
    assert all(share <= cells for share, cells in zip(shares, [4, 16, 64], strict=True))


def test_peaks_are_the_highest_local_maxima() -> None:
    energy = torch.zeros(1, 1, 5, 8)
    energy[0, 0, 1, 2], energy[0, 0, 1, 3], energy[0, 0, 4, 7] = 5.0, 4.0, 3.0
    energy[0, 0, 3, 0] = -9.0
    points = _peaks(energy.expand(-1, 6, -1, -1), 2)
    # The 4 is no maximum of its neighborhood.
    assert points[0].tolist() == [
        pytest.approx([2.5 / 8, 1.5 / 5]),
        pytest.approx([7.5 / 8, 4.5 / 5]),
    ]


def test_a_grid_goes_row_by_row_and_is_cut() -> None:
    points = _grid(torch.zeros(2, 1, 4, 8), 5)
    # round(sqrt(5 * 8 / 4)) = 3 columns, 2 rows, the sixth point left out
    xs, y0, y1 = [1 / 16, 0.5, 15 / 16], 1 / 8, 7 / 8
    expected = [[x, y0] for x in xs] + [[x, y1] for x in xs[:2]]
    torch.testing.assert_close(points[1], torch.tensor(expected))
    assert _grid(torch.zeros(1, 1, 30, 30), 1).tolist() == [[[pytest.approx(1 / 60)] * 2]]


def test_a_sample_at_a_cells_center_is_the_cell() -> None:
    x = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4)
    point = torch.tensor([[[2.5 / 4, 1.5 / 3], [3.0 / 4, 1.5 / 3]]])
    torch.testing.assert_close(_sample(x, point), torch.tensor([[[6.0, 18.0], [6.5, 18.5]]]))


def inputs(config: HybridConfig) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, config.d_model, *shape, generator=generator) for shape in SHAPES]
    memory = torch.randn(2, 340, config.d_model, generator=generator)
    position = torch.randn(1, 340, config.d_model, generator=generator)
    return memory, position, levels


def test_proposals_are_the_tokens_of_highest_objectness() -> None:
    config = SMALL.replace(proposal_queries=5, query_objectness=True)
    queries = Queries(config)
    memory, position, levels = inputs(config)
    made, objectness = queries(memory, position, levels)
    assert queries.proposals is not None
    assert objectness is not None
    scores = queries.proposals.objectness(memory).squeeze(-1)
    best = scores.argsort(descending=True, dim=1)[:, :5]
    torch.testing.assert_close(objectness[:, :5], scores.gather(1, best))
    ends = torch.tensor([4, 20, 84, 340])
    for image in range(2):
        for i, token in enumerate(best[image].tolist()):
            level = int((token >= ends).sum())
            content = queries.proposals.content(memory[image, token]) + queries.level_embed[level]
            box = queries.proposals.box(memory[image, token]).sigmoid()
            torch.testing.assert_close(made.content[image, i], content)
            torch.testing.assert_close(made.position[image, i], position[0, token])
            torch.testing.assert_close(made.reference[image, i], box[:2])
    rest = queries.objectness(made.content[:, 5:]).squeeze(-1)
    torch.testing.assert_close(objectness[:, 5:], rest)


def test_seeds_mix_the_maps_features_into_the_first_rows() -> None:
    config = SMALL.replace(peak_queries=4, grid_queries=3)
    queries = Queries(config)
    memory, position, levels = inputs(config)
    made, objectness = queries(memory, position, levels)
    assert objectness is None
    assert isinstance(queries.seeds, Seeds)
    assert made.content.shape == (2, 12, 32)
    # The peaks lie 0, 1, 3 on p5, p4, p3, so the first is p4's highest maximum.
    point = _peaks(levels[2], 1)
    feature = _sample(levels[2], point)[:, 0] + queries.level_embed[2]
    expected = 0.45 * queries.content[0] + 0.55 * queries.seeds.content(feature)
    torch.testing.assert_close(made.content[:, 0], expected)
    grid = _grid(levels[3], 2)[:, -1]
    torch.testing.assert_close(made.reference[:, 6], grid)
    feature = _sample(levels[3], grid[:, None])[:, 0] + queries.level_embed[3]
    expected = 0.6 * queries.content[6] + 0.4 * queries.seeds.content(feature)
    torch.testing.assert_close(made.content[:, 6], expected)
    assert torch.equal(made.position[0, :7], queries.position[:7])


def test_learned_queries_follow_the_rows_of_denoising_and_seeds() -> None:
    config = SMALL.replace(
        denoising="thesis", denoising_queries=10, grid_queries=3, proposal_queries=2,
        query_objectness=True,
    )  # fmt: skip
    queries = Queries(config)
    made, _ = queries(*inputs(config))
    assert queries.content.shape == (22, 32)
    assert torch.equal(made.content[1, 5:], queries.content[13:20])
    assert torch.equal(made.position[0, 2:], queries.position[10:20])


@pytest.mark.parametrize("kind", ["proposal_queries", "peak_queries", "grid_queries"])
def test_an_image_does_not_depend_on_the_batch(kind: str) -> None:
    config = SMALL.replace(**{kind: 12, "query_objectness": True})
    model = HybridDetector(config).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together, alone = model(images), model(images[1:])
    for name in ("boxes", "objectness_logits"):
        one, other = together[name][1:], alone[name]
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
