"""Hit-rate@10 and recall@100 on the held-out test relations, measured on the exported files.

    python evaluate.py --models .. --work build [--rerank-users 4000] [--baselines]

The models folder is read through binding.py: vectors from the .npy files, scorers with their own run times (ONNX Runtime,
TorchScript). Known relations are never candidates. The re-rankers order the first 500 candidates; a relation that
retrieval did not find stays a miss. Re-ranking every user is millions of pairs, so it can be measured on a seeded
sample; the two-tower alone is then reported on the same sample too. Also reports the skew check: tower on stored features against stored vectors.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from baselines import metrics, popularity_and_svd
from binding import DTYPES, ModelsFolder

DEPTH = 500
USERS_PER_CALL = 16


class PairEncoder:
    """The binding of one model, with the numbers of every user and item worked out once."""

    def __init__(self, folder, model, user_names):
        self.folder = folder
        self.inputs = {}
        rows = {"user": [folder.users[name] for name in user_names],
                "item": [folder.items[name] for name in folder.item_ids]}
        for name, binding in folder.rows[model]["inputs"].items():
            parts = []
            for entry in binding.get("pack", [binding]):
                side, _, column = entry["source"].partition(".")
                table = None
                if side in rows:
                    table = np.array([folder.encode(entry, row[column]) for row in rows[side]], DTYPES[binding["dtype"]])
                parts.append((entry["source"], side, table))
            self.inputs[name] = (DTYPES[binding["dtype"]], parts, binding.get("broadcast", False))

    def tensors(self, users, vectors, items, scores):
        """users: rows in user_names [U], vectors [U, d], items and scores [U, depth]. One row a user where the graph repeats it."""
        depth = items.shape[1]
        flat_items = items.ravel()
        made = {}
        for name, (dtype, parts, one_row) in self.inputs.items():
            columns, repeats = [], 1 if one_row else depth
            for source, side, table in parts:
                if source == "user_embedding":
                    columns.append(np.repeat(vectors, repeats, 0))
                elif source == "item_embedding":
                    columns.append(self.folder.item_vectors[flat_items])
                elif source == "retrieval.score":
                    columns.append(scores.reshape(-1, 1))
                elif source == "retrieval.rank":
                    columns.append(np.tile(np.arange(1, depth + 1), len(users))[:, None])
                else:
                    columns.append(table[np.repeat(users, repeats) if side == "user" else flat_items])
            made[name] = np.concatenate(columns, 1).astype(dtype)
        return made


def retrieve(folder, users, names):
    vectors = folder.user_vectors[users].astype(np.float32)
    scores = vectors @ folder.item_vectors.astype(np.float32).T
    for at, name in enumerate(names):
        scores[at, [folder.item_row[item] for item in folder.users[name]["history"]]] = -np.inf
    top = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
    best = np.take_along_axis(scores, top, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    return vectors, np.take_along_axis(top, order, 1), np.take_along_axis(best, order, 1)


def rank_of(scores, items, target):
    """Rank of each target under `scores`; DEPTH when it is not among the candidates."""
    is_target = items == target[:, None]
    best = np.where(is_target, scores, 0).sum(1, keepdims=True)
    return np.where(is_target.any(1), (scores > best).sum(1), DEPTH)


def scorers(folder):
    session = folder.session(folder.rows["DLRM"]["path"])
    output = folder.rows["DLRM"]["output"]["name"]
    script = torch.jit.load(str(folder.path / folder.rows["DCN-v2"]["path"]))

    def dcn(inputs):
        with torch.no_grad():
            return script(*(torch.from_numpy(value) for value in inputs.values())).numpy()

    def dlrm(inputs):
        """User by user: the graph takes the candidates of one."""
        users = len(inputs["user"])
        parts = {name: np.split(value, users) for name, value in inputs.items()}
        return np.concatenate([session.run([output], {name: part[at] for name, part in parts.items()})[0]
                               for at in range(users)])

    return {"DLRM": dlrm, "DCN-v2": dcn}


def skew(folder):
    row = folder.rows["Two-Tower"]
    session = folder.session("exported/onnx/user_tower.onnx")
    names = folder.user_ids
    packed = folder.tensor(row["inputs"]["user_features"], [{"user": folder.users[name]} for name in names])
    fresh = np.concatenate([session.run(["user_embedding"], {"user_features": part})[0] for part in np.array_split(packed, 12)])
    stored = folder.user_vectors.astype(np.float32)
    cosine = (fresh * stored).sum(1) / np.linalg.norm(fresh, axis=1) / np.linalg.norm(stored, axis=1)
    return float(cosine.min())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path(".."))
    parser.add_argument("--work", type=Path, default=Path("build"))
    parser.add_argument("--rerank-users", type=int, default=0, help="re-rank a seeded sample of this many users; 0 is all")
    parser.add_argument("--baselines", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    folder = ModelsFolder(args.models)
    data = json.loads((args.work / "data.json").read_text())
    test = dict(zip((row["id"] for row in data["users"]), data["test"]))
    assert all(test[name] not in folder.users[name]["history"] for name in test)

    names = folder.user_ids
    target = np.array([folder.item_row[test[name]] for name in names])
    result = {"users": len(names), "items": len(folder.item_ids), "depth": DEPTH, "skew_cosine_min": skew(folder)}
    if args.baselines:
        result.update(popularity_and_svd(data))
    retrieval = []
    for rows in np.array_split(np.arange(len(names)), len(names) // 256):
        _, items, scores = retrieve(folder, rows, [names[row] for row in rows])
        retrieval.append(rank_of(scores, items, target[rows]))
    retrieval = np.concatenate(retrieval)
    result["two-tower"] = {**metrics(retrieval), "recall_at_500": round(float((retrieval < DEPTH).mean()), 4)}
    print(json.dumps(result, indent=2), flush=True)

    sample = np.arange(len(names))
    if args.rerank_users:
        sample = np.sort(np.random.default_rng(0).permutation(sample)[:args.rerank_users])
    sampled = [names[row] for row in sample]
    result["rerank_users"] = len(sample)
    result["two-tower, same users"] = metrics(retrieval[sample])
    models = scorers(folder)
    encoders = {model: PairEncoder(folder, model, sampled) for model in models}
    ranks = {model: [] for model in models}
    started = time.monotonic()
    for start in range(0, len(sample), USERS_PER_CALL):
        rows = sample[start:start + USERS_PER_CALL]
        vectors, items, scores = retrieve(folder, rows, [names[row] for row in rows])
        for model, run in models.items():
            inputs = encoders[model].tensors(np.arange(start, start + len(rows)), vectors, items, scores)
            answer = run(inputs).reshape(items.shape)
            assert np.isfinite(answer).all()
            ranks[model].append(rank_of(answer, items, target[rows]))
        if start // USERS_PER_CALL % 50 == 49:
            print(f"{start + len(rows)} users re-ranked, {time.monotonic() - started:.0f}s", flush=True)
    result.update({f"two-tower + {model}": metrics(np.concatenate(found)) for model, found in ranks.items()})
    (args.work / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
