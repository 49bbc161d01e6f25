"""The DLRM as it is exported: the scores of the trained one (rerankers.py), for the candidates of one user, at a sixth
of the work.

Training scores pairs of many users, service scores many candidates of one. So the user is one row beside N candidates:

    dense           [N, 5]    retrieval score and rank, popularity, sizes                        float32
    user            [1, 28]   indices of the attributes of the user                              int32
    item            [N, 28]   and of the candidates                                              int32
    history         [1, 48]   items that the user is known to relate to                          int32
    relates_to      [N, 24]   items that the candidate itself relates to                         int32
    goes_with       [N, 20]   items that speak for the candidate, strongest first                int32
    user_embedding  [1, 64]   and item_embedding [N, 64], from the two towers                    float32

- What is of the user alone is worked out once: eight of the seventeen vectors, and their dot products.
- Matching is a look-up: the user's list is scattered into a table of zeros, which the candidates' lists read. To compare
  every entry with every entry was half of all the time.
- Indices are int32: half of what is gathered and read for a request.
- Tables are made floats before the look-up and not after it. ONNX Runtime does that once, when it loads the model.
"""

import torch
from torch import nn

from features import SPARSE_USER
from rerankers import WIDTH

INPUTS = ("dense", "user", "item", "history", "relates_to", "goes_with", "user_embedding", "item_embedding")
ONE_ROW = ("user", "history", "user_embedding")
TABLES = ("item", "section", "maintainer", "source", "tags", "name_tokens")
# Attributes that match when they are equal: the first columns.
PLAIN = ("id", "section", "priority", "architecture", "maintainer", "source")
assert tuple(column.name for column in SPARSE_USER[:len(PLAIN)]) == PLAIN

# Where rerankers.py stacks the vectors that differ between candidates, the mixture of numbers first, and the user's.
ITEM_AT = (0, 2, 3, 6, 8, 10, 12, 14, 16)
USER_AT = (1, 4, 5, 7, 9, 11, 13, 15)


def pairs_of(count):
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def places(pairs, count):
    return torch.tensor([i * count + j for i, j in pairs])


def floats(table):
    """[rows, WIDTH], of a plain table or of one in bytes (export.py)."""
    return table.weight if isinstance(table, nn.Embedding) else table.rows.float() * table.scale.float()


def length(lists):
    """Entries that are not padding, [rows, 1]."""
    return (lists != 0).float().sum(1, keepdim=True)


class DlrmOfOneUser(nn.Module):
    """Takes the trained model over: the columns of its first layer come into the order of the dot products here."""

    def __init__(self, dlrm):
        super().__init__()
        self.trained = dlrm
        total = dlrm.inputs.vectors
        own, among = pairs_of(len(ITEM_AT)), pairs_of(len(USER_AT))
        self.register_buffer("own", places(own, len(ITEM_AT)))
        self.register_buffer("among", places(among, len(USER_AT)))
        pairs = ([(ITEM_AT[i], ITEM_AT[j]) for i, j in own] + [(i, j) for i in ITEM_AT for j in USER_AT]
                 + [(USER_AT[i], USER_AT[j]) for i, j in among])
        trained_at = {pair: WIDTH + at for at, pair in enumerate(pairs_of(total))}
        dots = [trained_at[min(pair), max(pair)] for pair in pairs]
        assert len(set(dots)) == len(trained_at)
        norm, linear = dlrm.top[:2]
        order = torch.tensor([*range(WIDTH), *dots, *range(WIDTH + len(dots), len(norm.weight))])
        for holder, name, value in ((norm, "weight", norm.weight[order]), (norm, "bias", norm.bias[order]),
                                    (linear, "weight", linear.weight[:, order])):
            getattr(holder, name).data = value.detach().clone()
        rows = max(len(floats(getattr(dlrm.inputs, name))) for name in TABLES)
        self.register_buffer("nothing", torch.zeros(rows, dtype=torch.int8))

    def forward(self, dense, user, item, history, relates_to, goes_with, user_embedding, item_embedding):
        trained, inputs = self.trained, self.trained.inputs
        tables = {name: floats(getattr(inputs, name)) for name in TABLES}
        at = inputs.user_at

        def vectors(name, indices):
            return nn.functional.embedding(indices, tables[name])

        def mean(name, lists):
            return vectors(name, lists).sum(1) / length(lists).clamp(min=1)

        def attributes(side):
            """Rows of the vectors that users and candidates have alike."""
            return [*(vectors(name, side[:, at[name]][:, 0]) for name in ("section", "maintainer", "source")),
                    *(mean(name, side[:, at[name]]) for name in ("tags", "name_tokens"))]

        numbers = torch.cat([
            dense[:, 0:1] / 10,
            torch.log(dense[:, 1:2].clamp(min=1)) / 5,
            torch.log1p(dense[:, 2:].clamp(min=0)) / 8,
            (torch.log1p(length(history)) / 3).expand(dense.shape[0], 1),
            torch.matmul(item_embedding[:, :-1], user_embedding[:, :-1].T) / 10,
        ], 1)
        items = torch.stack([
            inputs.bottom(numbers), inputs.item_vector(item_embedding), vectors("item", item[:, at["id"]][:, 0]),
            mean("item", relates_to), *attributes(item)], 1)
        users = torch.cat([
            inputs.user_vector(user_embedding), vectors("item", user[:, at["id"]][:, 0]), mean("item", history),
            *attributes(user)], 0)
        dots = [
            torch.matmul(items, items.transpose(1, 2)).flatten(1).index_select(1, self.own),
            torch.matmul(items, users.T).flatten(1),
            torch.matmul(users, users.T).flatten()[None].index_select(1, self.among).expand(dense.shape[0], len(self.among)),
        ]

        def members(row):
            """[indices, 1]: 1 where the user's list has the index; never for padding."""
            return self.nothing.scatter(0, row[0].long(), (row[0] != 0).to(torch.int8)).unsqueeze(1)

        def shared(lists, of_user):
            """For each entry: 1 when the user's list holds it too."""
            return nn.functional.embedding(lists, of_user).squeeze(2).float()

        def share(found, lists):
            return found.sum(1, keepdim=True) / length(lists).clamp(min=1)

        known, plain, user_id = members(history), item[:, :len(PLAIN)], user[:, at["id"]]
        tokens, tags = (shared(item[:, at[name]], members(user[:, at[name]])) for name in ("name_tokens", "tags"))
        related, weighted = shared(relates_to, known), shared(goes_with, known) * inputs.place
        matches = torch.cat([
            ((plain == user[:, :len(PLAIN)]) & (plain != 0)).float(),
            tokens.sum(1, keepdim=True) / 3, share(tokens, item[:, at["name_tokens"]]),
            share(tokens, user[:, at["name_tokens"]]), share(tags, item[:, at["tags"]]),
            related.sum(1, keepdim=True) / 5, share(related, relates_to),
            weighted.sum(1, keepdim=True), weighted.amax(1, keepdim=True),
            ((relates_to == user_id) & (user_id != 0)).float().amax(1, keepdim=True),
            length(goes_with) / goes_with.shape[1],
        ], 1)
        mixed = trained.top(torch.cat([items[:, 0], *dots, matches, numbers], 1))
        return (trained.trust * dense[:, 0:1] + trained.direct(matches) + mixed)[:, 0]
