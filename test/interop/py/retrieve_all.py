"""Reads candidates with pyarrow and NumPy and judges them: retrieve_all.py MODELS FOLDER K -> JSON on stdout."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

models, folder, k = Path(sys.argv[1]) / "embeddings", Path(sys.argv[2]), int(sys.argv[3])
items = np.load(models / "item_embeddings.npy").astype(np.float64)
users = np.load(models / "user_embeddings.npy").astype(np.float64)
item_ids = np.array((models / "item_ids.txt").read_text().splitlines())
user_ids = np.array((models / "user_ids.txt").read_text().splitlines())

rows = np.load(folder / "out.npy", allow_pickle=False)
scores = np.load(folder / "out.scores.npy", allow_pickle=False)
long = pq.read_table(folder / "long.parquet")
lists = pq.read_table(folder / "lists.parquet")
columns = lambda table: [f"{one.name}: {one.type}" for one in table.schema]  # noqa: E731

# NumPy's own top k, of every 20th user: its scores are ours, and where the rows are not, they tie within f64 rounding.
wrong_scores = wrong_order = 0
for start in range(0, 20 * 64, 64):
    part = slice(start, len(users), 20 * 64)
    all_scores = users[part] @ items.T
    best = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
    expected = np.take_along_axis(all_scores, best, axis=1)
    ours = np.take_along_axis(all_scores, rows[part], axis=1)
    tolerance = 1e-6 * np.maximum(np.abs(expected), 1)
    wrong_scores += int((np.abs(scores[part] - expected) > tolerance).sum())
    wrong_order += int((np.abs(ours - expected) > 1e-12 * np.maximum(np.abs(expected), 1)).sum())

one = pq.read_table(folder / "long.parquet", filters=[("user_id", "=", "gimp")])
place = int(np.flatnonzero(user_ids == "gimp")[0])
empty = pq.read_table(folder / "empty-lists.parquet")
json.dump(
    {
        "long_columns": columns(long),
        "lists_columns": columns(lists),
        "npy": [f"{one.dtype} {one.shape}" for one in (rows, scores)],
        "long_equals_npy": bool(
            (long["user_id"].to_numpy() == np.repeat(user_ids, k)).all()
            and (long["rank"].to_numpy() == np.tile(np.arange(1, k + 1), len(users))).all()
            and (long["item_id"].to_numpy() == item_ids[rows.ravel()]).all()
            and (long["score"].to_numpy() == scores.ravel()).all()
        ),
        "lists_equal_npy": bool(
            (lists["user_id"].to_numpy() == user_ids).all()
            and (np.stack(lists["item_ids"].to_numpy()) == item_ids[rows]).all()
            and (np.stack(lists["scores"].to_numpy()) == scores).all()
        ),
        "one_user": one["item_id"].to_pylist() == list(item_ids[rows[place]]),
        "empty": [
            pq.read_table(folder / "empty-long.parquet").num_rows,
            empty.num_rows,
            sum(len(ids) for ids in empty["item_ids"].to_pylist()),
        ],
        "generation": long.schema.metadata[b"belfry.generation"].decode(),
        "wrong_scores": wrong_scores,
        "wrong_order": wrong_order,
    },
    sys.stdout,
)
