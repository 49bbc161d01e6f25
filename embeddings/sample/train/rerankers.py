"""Two scorers of (user, candidate) pairs over the same inputs: DLRM and DCN-v2.

    dense           [N, 5]   retrieval score and rank, popularity, sizes                         float32
    sparse          [N, 56]  indices of the attributes of the user, then of the item             int64
    history         [N, 48]  items that the user is known to relate to                           int64
    relates_to      [N, 24]  items that the candidate itself relates to                          int64
    goes_with       [N, 20]  items that speak for the candidate, strongest first                 int64
    user_embedding  [N, 64]  and item_embedding [N, 64], from the two towers                     float32

The output is a logit whose starting point is the retrieval score: an untrained scorer keeps retrieval order.
"""

import torch
from torch import nn
from torch.nn import functional as F

from features import DENSE, GOES_WITH_WIDTH, SPARSE_ITEM, SPARSE_USER, slices
from two_tower import DIMS, embedding, mean_of

WIDTH = 16          # of every embedding that takes part in the interaction


class Inputs(nn.Module):
    """Everything before the interaction: embeddings of width 16, and plain numbers with exact matches."""

    def __init__(self, sizes, dropout):
        super().__init__()
        self.user_at = slices(SPARSE_USER)
        self.item_at = slices(SPARSE_ITEM)
        self.user_width = sum(column.width for column in SPARSE_USER)
        self.item = embedding(sizes["items"], WIDTH)
        self.section = embedding(sizes["sections"], WIDTH)
        self.maintainer = embedding(sizes["maintainers"], WIDTH)
        self.source = embedding(sizes["sources"], WIDTH)
        self.tags = embedding(sizes["tags"], WIDTH)
        self.name_tokens = embedding(sizes["name_tokens"], WIDTH)
        self.user_vector = nn.Linear(DIMS, WIDTH)
        self.item_vector = nn.Linear(DIMS, WIDTH)
        self.bottom = nn.Sequential(nn.Linear(len(DENSE) + 2, 32), nn.ReLU(), nn.Linear(32, WIDTH))
        self.place = nn.Parameter(torch.linspace(1, 0.1, GOES_WITH_WIDTH))
        # Tens of thousands of lists cannot fill the tables: without noise the second pass learns them by heart.
        self.noise = nn.Dropout(dropout)
        self.vectors = 17
        self.matches = 16

    def forward(self, dense, sparse, history, relates_to, goes_with, user_embedding, item_embedding):
        user, item = sparse[:, :self.user_width], sparse[:, self.user_width:]
        user_tags, item_tags = user[:, self.user_at["tags"]], item[:, self.item_at["tags"]]
        user_tokens, item_tokens = user[:, self.user_at["name_tokens"]], item[:, self.item_at["name_tokens"]]

        def one(columns, at, name):
            return columns[:, at[name]][:, 0]

        score = dense[:, 0:1] / 10
        rank = torch.log(dense[:, 1:2].clamp(min=1)) / 5
        amounts = torch.log1p(dense[:, 2:].clamp(min=0)) / 8
        length = torch.log1p((history != 0).float().sum(1, keepdim=True)) / 3
        agreement = (user_embedding * item_embedding)[:, :-1].sum(1, keepdim=True) / 10
        numbers = torch.cat([score, rank, amounts, length, agreement], 1)

        vectors = self.noise(torch.stack([
            self.bottom(numbers),
            self.user_vector(user_embedding),
            self.item_vector(item_embedding),
            self.item(one(item, self.item_at, "id")),
            self.item(one(user, self.user_at, "id")),
            mean_of(self.item, history),
            mean_of(self.item, relates_to),
            self.section(one(user, self.user_at, "section")),
            self.section(one(item, self.item_at, "section")),
            self.maintainer(one(user, self.user_at, "maintainer")),
            self.maintainer(one(item, self.item_at, "maintainer")),
            self.source(one(user, self.user_at, "source")),
            self.source(one(item, self.item_at, "source")),
            mean_of(self.tags, user_tags),
            mean_of(self.tags, item_tags),
            mean_of(self.name_tokens, user_tokens),
            mean_of(self.name_tokens, item_tokens),
        ], 1))

        def same(name):
            left, right = one(user, self.user_at, name), one(item, self.item_at, name)
            return ((left == right) & (left != 0)).float().unsqueeze(1)

        def shared(left, right):
            """For each entry of `right`: 1 when `left` holds it too."""
            return ((left.unsqueeze(2) == right.unsqueeze(1)) & (right != 0).unsqueeze(1)).any(1).float()

        def share(found, of):
            return found.sum(1, keepdim=True) / (of != 0).float().sum(1, keepdim=True).clamp(min=1)

        tokens, tags = shared(user_tokens, item_tokens), shared(user_tags, item_tags)
        related, partners = shared(history, relates_to), shared(history, goes_with)
        weighted = partners * self.place
        matches = torch.cat([
            same("id"), same("section"), same("priority"), same("architecture"), same("maintainer"), same("source"),
            tokens.sum(1, keepdim=True) / 3, share(tokens, item_tokens), share(tokens, user_tokens),
            share(tags, item_tags),
            related.sum(1, keepdim=True) / 5, share(related, relates_to),
            weighted.sum(1, keepdim=True), weighted.amax(1, keepdim=True),
            (relates_to == user[:, self.user_at["id"]]).any(1, keepdim=True).float()
            * (user[:, self.user_at["id"]] != 0).float(),
            (goes_with != 0).float().mean(1, keepdim=True),
        ], 1)
        return numbers, vectors, matches


class Dlrm(nn.Module):
    """Naumov et al. 2019: the dot products of all pairs of embeddings, then an MLP."""

    def __init__(self, sizes, dropout=0.1):
        super().__init__()
        self.inputs = Inputs(sizes, dropout)
        pairs = torch.triu_indices(self.inputs.vectors, self.inputs.vectors, 1)
        self.register_buffer("pairs", pairs[0] * self.inputs.vectors + pairs[1])
        width = WIDTH + pairs.shape[1] + self.inputs.matches + len(DENSE) + 2
        self.top = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 128), nn.ReLU(), nn.Dropout(dropout),
                                 nn.Linear(128, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 1))
        self.direct = nn.Linear(self.inputs.matches, 1, bias=False)
        self.trust = nn.Parameter(torch.tensor(1.0))
        for last in (self.top[-1], self.direct):
            nn.init.zeros_(last.weight)

    def forward(self, dense, sparse, history, relates_to, goes_with, user_embedding, item_embedding):
        numbers, vectors, matches = self.inputs(dense, sparse, history, relates_to, goes_with,
                                                user_embedding, item_embedding)
        dots = torch.matmul(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        mixed = self.top(torch.cat([vectors[:, 0], dots, matches, numbers], 1))
        return (self.trust * dense[:, 0:1] + self.direct(matches) + mixed)[:, 0]


class DcnV2(nn.Module):
    """Wang et al. 2021: x0 * (W x + b) + x, low rank, beside an MLP."""

    def __init__(self, sizes, dropout=0.1, layers=3, rank=48):
        super().__init__()
        self.inputs = Inputs(sizes, dropout)
        width = self.inputs.vectors * WIDTH + self.inputs.matches + len(DENSE) + 2
        self.norm = nn.LayerNorm(width)
        self.down = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(rank, width) for _ in range(layers))
        self.deep = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 64), nn.ReLU())
        self.last = nn.Linear(width + 64, 1)
        self.direct = nn.Linear(self.inputs.matches, 1, bias=False)
        self.trust = nn.Parameter(torch.tensor(1.0))
        for last in (self.last, self.direct):
            nn.init.zeros_(last.weight)

    def forward(self, dense, sparse, history, relates_to, goes_with, user_embedding, item_embedding):
        numbers, vectors, matches = self.inputs(dense, sparse, history, relates_to, goes_with,
                                                user_embedding, item_embedding)
        first = self.norm(torch.cat([vectors.flatten(1), matches, numbers], 1))
        crossed = first
        for down, up in zip(self.down, self.up):
            crossed = first * up(down(crossed)) + crossed
        mixed = self.last(torch.cat([crossed, self.deep(first)], 1))
        return (self.trust * dense[:, 0:1] + self.direct(matches) + mixed)[:, 0]
