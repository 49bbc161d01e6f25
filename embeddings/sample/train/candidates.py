"""What the re-rankers see: the candidates that the two-tower retrieves, and the tensors of (user, candidate) pairs."""

from dataclasses import dataclass

import numpy as np
import torch

import features

DEPTH = 500


@dataclass
class Tables:
    """Everything that a pair's tensors are gathered from, one row per user or per item."""

    user_sparse: torch.Tensor
    item_sparse: torch.Tensor
    user_size: torch.Tensor
    item_size: torch.Tensor
    popularity: torch.Tensor
    history: torch.Tensor
    relates_to: torch.Tensor
    goes_with: torch.Tensor
    user_vectors: torch.Tensor
    item_vectors: torch.Tensor


def sizes_of(rows):
    return torch.tensor([row["installed_size"] or 0 for row in rows], dtype=torch.float32)[:, None]


def build_tables(users, items, vocabulary, histories, relates_to, popularity, goes_with, user_vectors, item_vectors):
    def encode(rows, layout, lists=None):
        name = layout[0].name
        source = rows if lists is None else [{name: names} for names in lists]
        return torch.from_numpy(features.pack(source, layout, vocabulary)).long()

    return Tables(
        encode(users, features.SPARSE_USER), encode(items, features.SPARSE_ITEM),
        sizes_of(users), sizes_of(items),
        torch.tensor(popularity, dtype=torch.float32)[:, None],
        encode(None, features.HISTORY, histories), encode(None, features.RELATES_TO, relates_to),
        torch.from_numpy(goes_with).long(), user_vectors, item_vectors)


def pair_inputs(tables, users, items, scores, ranks):
    """The seven tensors of flat pairs, in the order that the models of rerankers.py take them."""
    dense = torch.cat([scores[:, None], ranks[:, None].float(), tables.popularity[items], tables.item_size[items],
                       tables.user_size[users]], 1)
    return (dense, torch.cat([tables.user_sparse[users], tables.item_sparse[items]], 1), tables.history[users],
            tables.relates_to[items], tables.goes_with[items], tables.user_vectors[users], tables.item_vectors[items])


def retrieve(user_vectors, item_vectors, known, depth=DEPTH, batch=1024):
    """(items [N, depth], scores [N, depth]) by inner product, without the known relations."""
    found_items, found_scores = [], []
    for start in range(0, len(user_vectors), batch):
        scores = user_vectors[start:start + batch] @ item_vectors.T
        for at, names in enumerate(known[start:start + batch]):
            scores[at, names] = -np.inf
        top = torch.topk(scores, depth, dim=1)
        found_items.append(top.indices)
        found_scores.append(top.values)
    return torch.cat(found_items), torch.cat(found_scores)
