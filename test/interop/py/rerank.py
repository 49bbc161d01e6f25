"""Retrieval and re-ranking of one user in NumPy and Python's ONNX Runtime, from the models folder alone.

    python rerank.py MODELS_FOLDER USER_ID CANDIDATES [MODEL INPUTS.npz]

Prints {"item_ids", "retrieval_scores", "scores"} in retrieval order; the scores are the DLRM's. With MODEL, that model's
inputs are written instead of its scores, for whatever can run it. The binding is read by the sample's own Python
implementation (train/binding.py), which shares no code with the service.
"""

import json
import sys
from pathlib import Path

import numpy as np

models, user_id, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sys.path.insert(0, str(models / "train"))
from binding import ModelsFolder  # noqa: E402

folder = ModelsFolder(models)
user = folder.users[user_id]
query = folder.user_vectors[folder.user_row[user_id]].astype(np.float32)
scores = folder.item_vectors.astype(np.float32) @ query
order = np.argsort(-scores, kind="stable")[:count]
pairs = [
    {
        "user": user,
        "item": folder.items[folder.item_ids[row]],
        "user_embedding": query,
        "item_embedding": folder.item_vectors[row],
        "score": scores[row],
        "rank": rank,
    }
    for rank, row in enumerate(order, 1)
]
if len(sys.argv) > 4:
    np.savez(sys.argv[5], **folder.inputs(sys.argv[4], pairs))
    print(json.dumps({"item_ids": [folder.item_ids[row] for row in order]}))
    sys.exit()
row = folder.rows["DLRM"]
answer = folder.session(row["path"]).run([row["output"]["name"]], folder.inputs("DLRM", pairs))[0]
print(
    json.dumps(
        {
            "item_ids": [folder.item_ids[row] for row in order],
            "retrieval_scores": scores[order].tolist(),
            "scores": np.ravel(answer).tolist(),
        }
    )
)
