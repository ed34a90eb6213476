"""The object queries: learned, chosen among the encoder's tokens, or seeded on the neck's maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.float32 import without_autocast
from detector.network.layers import xavier_linear
from detector.network.modules.query_selection import Proposals, QuerySet, Seeds


class Queries(nn.Module):
    """``config.queries`` queries: proposals, seeds on peaks, seeds on a grid, learned ones.

    The tables ``content`` and ``position`` have a row for each of them, though proposals use none.
    The thesis' denoising keeps its own rows before those.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        d = config.d_model
        self.denoising_rows = config.denoising_queries if config.denoising == "thesis" else 0
        rows = config.queries + self.denoising_rows
        self.content = nn.Parameter(torch.empty(rows, d))
        self.position = nn.Parameter(torch.empty(rows, d))
        self.reference = xavier_linear(d, 2)
        nn.init.normal_(self.position, std=config.query_std)
        nn.init.normal_(self.content, std=config.query_std)
        self.seeded = config.peak_queries + config.grid_queries
        self.learned = config.queries - config.proposal_queries - self.seeded
        self.proposals = Proposals(config) if config.proposal_queries else None
        self.seeds = Seeds(config) if self.seeded else None
        self.level_embed = None
        if self.proposals is not None or self.seeds is not None:
            self.level_embed = nn.Parameter(torch.randn(4, d) * 0.02)
        self.objectness = xavier_linear(d, 1) if config.query_objectness else None

    def forward(
        self, memory: Tensor, position: Tensor, levels: Sequence[Tensor]
    ) -> tuple[QuerySet, Tensor | None]:
        """The queries, and their objectness logits (B, N) if a head predicts them.

        Args:
            memory: (B, tokens, C), the encoder's output.
            position: (1, tokens, C), the tokens' position encoding.
            levels: the neck's maps (B, C, H, W), coarsest first.
        """
        batch, chosen, scores = len(memory), [], []
        if self.proposals is not None:
            shapes = [(int(x.shape[-2]), int(x.shape[-1])) for x in levels]
            proposed, logits = self.proposals(memory, position, shapes, self.level_embed)
            chosen.append(proposed)
            scores.append(logits)
        row = self.denoising_rows
        if self.seeds is not None:
            points, features, share = self.seeds(levels, self.level_embed)
            rows = slice(row, row + self.seeded)
            content = (1 - share) * self.content[rows] + share * features
            chosen.append(QuerySet(content, self.position[None, rows], points))
            row += self.seeded
        if self.learned:
            rows = slice(row, row + self.learned)
            place = self.position[None, rows]
            reference = self._references(place).expand(batch, -1, -1)
            chosen.append(QuerySet(self.content[rows].expand(batch, -1, -1), place, reference))
        queries = concatenated(chosen)
        if self.objectness is None:
            return queries, None
        rest = queries.content[:, scores[0].shape[1] if scores else 0 :]
        return queries, torch.cat((*scores, self.objectness(rest).squeeze(-1)), dim=1)

    @without_autocast
    def _references(self, position: Tensor) -> Tensor:
        return self.reference(position).sigmoid()


def concatenated(parts: Sequence[QuerySet]) -> QuerySet:
    """The queries of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    batch = len(parts[0].content)
    contents, positions, references = zip(*parts, strict=True)
    return QuerySet(
        torch.cat(contents, dim=1),
        torch.cat([position.expand(batch, -1, -1) for position in positions], dim=1),
        torch.cat(references, dim=1),
    )
