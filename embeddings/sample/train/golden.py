"""Writes ../golden: what the exported files answer, for tests of the service.

    python golden.py --models ..

Reads only the models folder, through binding.py. user_tower.json: feature values as a caller types them, the packed
row, the embedding. dlrm.json: two requests with their candidates, every input tensor, the scores. top10.json:
exact nearest items by inner product.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from binding import ModelsFolder

KNOWN_USERS = ("vlc", "postgresql-15", "python3-pandas", "gimp", "ruby-rails")
NEW_USERS = (
    {"history": ["python3-numpy", "python3-scipy", "python3-matplotlib"]},
    {"history": ["nginx", "no-such-package", "php-fpm"], "section": "web"},
    {"section": "games", "tags": ["role::program", "use::gameplaying"], "installed_size": 20480},
    {"history": [], "section": "no-such-section", "name_tokens": ["ruby"], "maintainer": None},
)
RERANK_USERS = ("vlc", "python3-pandas")
CANDIDATES = 50


def plain(array, digits=None):
    return np.round(array.astype(np.float64), digits).tolist() if digits else array.tolist()


def float32(array):
    """Shortest decimals that read back as the same float32."""
    return [float32(row) for row in array] if array.ndim > 1 else [float(str(value)) for value in array.astype(np.float32)]


def present(folder, wanted):
    names = [name for name in wanted if name in folder.user_row]
    return names or folder.user_ids[:len(wanted)]


def user_tower(folder):
    row = folder.rows["Two-Tower"]
    session = folder.session("exported/onnx/user_tower.onnx")
    both = folder.session(row["path"])
    cases = []
    for name in [*present(folder, KNOWN_USERS), *NEW_USERS]:
        known = isinstance(name, str)
        values = {key: value for key, value in folder.users[name].items() if key not in ("id", "seen")} if known else name
        packed = folder.tensor(row["inputs"]["user_features"], [{"user": values}])
        answer = session.run(["user_embedding"], {"user_features": packed})[0][0]
        item_width = both.get_inputs()[1].shape[1]
        same = both.run(["user_embedding"], {"user_features": packed, "item_features": np.zeros((1, item_width), np.float32)})
        assert np.abs(same[0][0] - answer).max() < 1e-4
        case = {"features": values, "user_features": float32(packed[0]), "user_embedding": float32(answer)}
        cases.append({"user_id": name, **case} if known else case)
    return {"model": row["path"], "tolerance": 1e-4, "cases": cases}


def best(folder, query, k, without=()):
    """(ids, float32 scores): inner product over the stored item vectors, ties by row."""
    scores = folder.item_vectors.astype(np.float32) @ query.astype(np.float32)
    scores[[folder.item_row[name] for name in without if name in folder.item_row]] = -np.inf
    order = np.argsort(-scores, kind="stable")[:k]
    return [folder.item_ids[row] for row in order], scores[order]


def dlrm(folder):
    row = folder.rows["DLRM"]
    session = folder.session(row["path"])
    requests = []
    for name in present(folder, RERANK_USERS):
        user, query = folder.users[name], folder.user_vectors[folder.user_row[name]]
        ids, scores = best(folder, query, CANDIDATES, without=user["seen"])
        pairs = [{"user": user, "item": folder.items[item], "user_embedding": query,
                  "item_embedding": folder.item_vectors[folder.item_row[item]], "score": score, "rank": rank}
                 for rank, (item, score) in enumerate(zip(ids, scores), 1)]
        inputs = folder.inputs("DLRM", pairs)
        answer = session.run([row["output"]["name"]], inputs)[0]
        shapes = {key: list(value.shape) for key, value in inputs.items()}
        # A column that says the same for every candidate comes from the user: written once.
        tensors = {}
        for key, value in inputs.items():
            flat = float32 if value.dtype == np.float32 else plain
            tensors[key] = {"dtype": str(value.dtype), "shape": shapes[key],
                            **({"row": flat(value[0])} if (value == value[0]).all() else {"rows": flat(value)})}
        requests.append({"user_id": name, "item_ids": ids, "retrieval_scores": float32(scores), "inputs": tensors,
                         "scores": float32(answer)})
    return {"model": row["path"], "tolerance": 1e-4, "requests": requests}


def top10(folder):
    cases = []
    for name in present(folder, KNOWN_USERS):
        ids, scores = best(folder, folder.user_vectors[folder.user_row[name]], 10)
        cases.append({"user_id": name, "item_ids": ids, "scores": float32(scores)})
    return {"metric": "ip", "k": 10, "exclude_seen": False, "cases": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path(".."))
    folder = ModelsFolder(parser.parse_args().models)
    out = folder.path / "golden"
    out.mkdir(exist_ok=True)
    for name, make in (("user_tower", user_tower), ("dlrm", dlrm), ("top10", top10)):
        text = json.dumps(make(folder), separators=(",", ":"))
        (out / f"{name}.json").write_text(text + "\n")
        print(f"{name}.json {len(text)} bytes")


if __name__ == "__main__":
    main()
