"""Recall, MRR and NDCG of answers, computed apart: bench_recall.py ITEMS.npy QUERIES.npy METRIC ROWS.npy... -> JSON lines.

ROWS is queries x k. Scores are sums in f64, compared as f32. A row is a hit when its score reaches the k-th best.
MRR: 1 / (1 + rows that score higher than the first answer). NDCG@k: a row of exact rank r <= k gains k + 1 - r, divided by
log2(place + 1), over what the exact list has.
"""

import json
import math
import sys

import numpy as np

items, queries = (np.load(path, allow_pickle=False).astype(np.float64) for path in sys.argv[1:3])
metric = sys.argv[3]
if metric == "l2":
    scores = np.stack([-((items - query) ** 2).sum(axis=1) for query in queries])
else:
    scores = queries @ items.T
    if metric == "cosine":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(items, axis=1)[None, :]
scores = scores.astype(np.float32)
ordered = -np.sort(-scores, axis=1)

for path in sys.argv[4:]:
    rows = np.load(path, allow_pickle=False).astype(np.int64)
    count, k = rows.shape
    assert all(len(set(row)) == k for row in rows.tolist()), "a row was answered twice"
    answered = np.take_along_axis(scores, rows, axis=1)
    hits = int((answered >= ordered[:, k - 1 : k]).sum())
    reciprocal = 0.0
    ndcg = []
    for q in range(count):
        rank = lambda score: 1 + int((ordered[q] > score).sum())
        reciprocal += 1 / rank(answered[q, 0])
        gain = lambda list_: math.fsum(
            max(0, k + 1 - rank(score)) / math.log2(place + 2) for place, score in enumerate(list_)
        )
        ndcg.append(gain(answered[q]) / gain(ordered[q, :k]))
    print(json.dumps({"k": k, "recall": hits / (count * k), "mrr": reciprocal / count, "ndcg": math.fsum(ndcg) / count}))
