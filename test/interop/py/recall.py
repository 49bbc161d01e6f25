"""Recall of answers: recall.py ITEMS.npy QUERIES.npy ROWS.npy -> JSON {recall} on stdout. Inner product.

ROWS is queries x k, the rows that were answered. A row is a hit when its score reaches the k-th best of all, both as
float32, so that ties are no misses.
"""

import json
import sys

import numpy as np

items, queries, rows = (np.load(path, allow_pickle=False) for path in sys.argv[1:4])
k = rows.shape[1]
scores = queries.astype(np.float64) @ items.astype(np.float64).T
kth = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
answered = np.take_along_axis(scores, rows.astype(np.int64), axis=1)
assert all(len(set(row)) == k for row in rows.tolist()), "a row was answered twice"
hits = answered.astype(np.float32) >= kth.astype(np.float32)
json.dump({"recall": float(hits.mean())}, sys.stdout)
