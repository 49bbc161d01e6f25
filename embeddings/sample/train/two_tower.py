"""The two towers. Both read packed float32 rows (features.py) and answer a vector of 64.

score(user, item) = inner product, not normalised: the last dimension of a user vector is always 1 and the
last dimension of an item vector is a learned bias, so that popularity is part of the inner product and an
index for plain inner products needs to know nothing about it.
"""

import torch
from torch import nn
from torch.nn import functional as F

from features import ITEM_LAYOUT, USER_LAYOUT, slices

DIMS = 64
LATENT = DIMS - 1
HIDDEN = 384


def embedding(size, dims, scale=0.05):
    table = nn.Embedding(size + 1, dims, padding_idx=0)
    with torch.no_grad():
        table.weight.normal_(0, scale)
        table.weight[0] = 0
    return table


def mean_of(table, index):
    """Mean of the embeddings of the indices that are not 0; zeros for a row that has none."""
    known = (index != 0).float()
    return table(index).sum(1) / known.sum(1, keepdim=True).clamp(min=1)


def log_size(column):
    return torch.log1p(column.clamp(min=0)) / 10


class Attributes(nn.Module):
    """Section, tags, name tokens and so on: one table each, shared by both towers."""

    def __init__(self, sizes):
        super().__init__()
        self.tags = embedding(sizes["tags"], 32)
        self.name_tokens = embedding(sizes["name_tokens"], 64)
        self.section = embedding(sizes["sections"], 24)
        self.priority = embedding(sizes["priorities"], 4)
        self.architecture = embedding(sizes["architectures"], 4)
        self.maintainer = embedding(sizes["maintainers"], 24)
        self.source = embedding(sizes["sources"], 32)
        self.width = 32 + 64 + 24 + 4 + 4 + 24 + 32 + 1

    def forward(self, packed, at):
        def index(name):
            return packed[:, at[name]].long()

        return torch.cat([
            mean_of(self.tags, index("tags")),
            mean_of(self.name_tokens, index("name_tokens")),
            self.section(index("section")[:, 0]),
            self.priority(index("priority")[:, 0]),
            self.architecture(index("architecture")[:, 0]),
            self.maintainer(index("maintainer")[:, 0]),
            self.source(index("source")[:, 0]),
            log_size(packed[:, at["installed_size"]]),
        ], 1)


class UserTower(nn.Module):
    def __init__(self, sizes, attributes, dropout):
        super().__init__()
        self.at = slices(USER_LAYOUT)
        self.attributes = attributes
        self.history = embedding(sizes["items"], DIMS)
        # How much a known package says about its user: libc6 little, a plug-in host a lot. Two opinions.
        self.weight = embedding(sizes["items"], 2, scale=0.0)
        self.hidden = nn.Linear(2 * DIMS + 1 + attributes.width, HIDDEN)
        self.hidden2 = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, LATENT)
        self.skip = nn.Linear(2 * DIMS, LATENT, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, packed):
        index = packed[:, self.at["history"]].long()
        known = (index != 0).float()
        weight = torch.exp(self.weight(index)) * known.unsqueeze(2)                      # [N, L, 2]
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
        pooled = torch.matmul(weight.transpose(1, 2), self.history(index)).flatten(1)    # [N, 2 * DIMS]
        count = torch.log1p(known.sum(1, keepdim=True)) / 3
        inputs = torch.cat([pooled, count, self.attributes(packed, self.at)], 1)
        hidden = F.gelu(self.hidden(self.dropout(inputs)))
        hidden = hidden + F.gelu(self.hidden2(self.dropout(hidden)))
        latent = self.out(self.dropout(hidden)) + self.skip(pooled)
        return torch.cat([latent, torch.ones_like(latent[:, :1])], 1)


class ItemTower(nn.Module):
    def __init__(self, sizes, attributes, dropout):
        super().__init__()
        self.at = slices(ITEM_LAYOUT)
        self.attributes = attributes
        self.item = embedding(sizes["items"], DIMS)
        self.hidden = nn.Linear(attributes.width, 128)
        self.out = nn.Linear(128, DIMS)
        self.skip = nn.Linear(attributes.width, DIMS, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, packed):
        index = packed[:, self.at["id"]].long()[:, 0]
        inputs = self.dropout(self.attributes(packed, self.at))
        return self.item(index) + self.out(F.gelu(self.hidden(inputs))) + self.skip(inputs)


class TwoTower(nn.Module):
    def __init__(self, sizes, dropout=0.2):
        super().__init__()
        self.sizes = dict(sizes)
        attributes = Attributes(sizes)
        self.user_tower = UserTower(sizes, attributes, dropout)
        self.item_tower = ItemTower(sizes, attributes, dropout)

    def forward(self, user_features, item_features):
        return self.user_tower(user_features), self.item_tower(item_features)
