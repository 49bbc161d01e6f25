"""For each item, the known relations that speak for it most: the column `goes_with` of items.parquet.

    python neighbours.py --work build

EASE (Steck 2019) on the relation matrix: a linear item-to-item model with a closed form. Of its weights only
the names of the strongest sources of each item are kept, in order; a re-ranker compares them with the user's
history. Computed twice: from `train` for training the re-rankers (their positives are not in it), and
from all known relations for serving. The held-out test relations are in neither.
"""

import argparse
from pathlib import Path

import numpy as np
import scipy.linalg

import features
from baselines import matrix, metrics, ranks

KEPT = 20
RIDGE = 20.0


def ease_weights(relations, ridge=RIDGE):
    gram = (relations.T @ relations).toarray().astype(np.float32, order="F")
    gram[np.diag_indices_from(gram)] += ridge
    factor, info = scipy.linalg.lapack.spotrf(gram, lower=1, overwrite_a=1, clean=0)
    inverse, info2 = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if info or info2:
        raise ArithmeticError(f"Cholesky of the item Gram matrix failed ({info}, {info2}); raise RIDGE")
    inverse = np.tril(inverse)
    inverse += np.tril(inverse, -1).T
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def strongest(weights, kept=KEPT):
    """int32 [items, kept]: item index + 1 of the strongest positive sources of each item, 0 beyond them."""
    top = np.argpartition(-weights, kept, axis=0)[:kept]
    strength = np.take_along_axis(weights, top, 0)
    order = np.argsort(-strength, axis=0)
    top, strength = np.take_along_axis(top, order, 0), np.take_along_axis(strength, order, 0)
    return np.where(strength > 1e-3, top + 1, 0).T.astype(np.int32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build"))
    args = parser.parse_args()
    data = features.load(args.work)
    index = {row["id"]: at for at, row in enumerate(data["items"])}
    train = matrix(data["train"], index)
    weights = ease_weights(train)
    np.save(args.work / "goes_with_train.npy", strongest(weights))
    held = [row for row, flag in enumerate(data["is_validation"]) if flag]
    shown = train[held]
    targets = np.array([index[data["stack"][row]] for row in held])
    print("EASE on validation", metrics(ranks(lambda a, b: shown[a:b] @ weights, shown, targets)), flush=True)
    del weights
    weights = ease_weights(matrix(data["known"], index))
    np.save(args.work / "goes_with_known.npy", strongest(weights))


if __name__ == "__main__":
    main()
