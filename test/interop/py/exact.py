"""Exact top-k by NumPy: exact.py ITEMS.npy QUERIES.npy METRIC K -> JSON {rows, scores, scores_f32} on stdout."""

import json
import sys

import numpy as np

items_path, queries_path, metric, k = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
items = np.load(items_path, allow_pickle=False)
queries = np.load(queries_path, allow_pickle=False)


def scores_in(dtype):
    x, q = items.astype(dtype), queries.astype(dtype)
    if metric == "ip":
        return q @ x.T
    if metric == "cosine":
        return (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (x / np.linalg.norm(x, axis=1, keepdims=True)).T
    return -np.stack([((x - row) ** 2).sum(axis=1) for row in q])


exact = scores_in(np.float64)
rows = np.argsort(-exact, axis=1, kind="stable")[:, :k]
taken = np.take_along_axis(exact, rows, axis=1)
single = np.take_along_axis(scores_in(np.float32), rows, axis=1).astype(np.float64)
json.dump({"rows": rows.tolist(), "scores": taken.tolist(), "scores_f32": single.tolist()}, sys.stdout)
