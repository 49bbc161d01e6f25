"""Reads a models folder and builds model inputs from it, by registry.yaml and nothing else.

This is an independent second implementation of the binding rules (the service has its own), for the golden files
and for the evaluation. It imports nothing from the training code.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import yaml

DTYPES = {"float32": np.float32, "int64": np.int64, "int32": np.int32}


class ModelsFolder:
    def __init__(self, path):
        self.path = Path(path)
        self.rows = {row["model"]: row for row in yaml.safe_load((self.path / "registry.yaml").read_text())["models"]}
        self.user_ids = self.lines("embeddings/user_ids.txt")
        self.item_ids = self.lines("embeddings/item_ids.txt")
        self.user_vectors = np.load(self.path / "embeddings/user_embeddings.npy")
        self.item_vectors = np.load(self.path / "embeddings/item_embeddings.npy")
        self.users = self.table("features/users.parquet")
        self.items = self.table("features/items.parquet")
        self.item_row = {name: row for row, name in enumerate(self.item_ids)}
        self.user_row = {name: row for row, name in enumerate(self.user_ids)}
        self._vocabularies = {}

    def lines(self, name):
        return (self.path / name).read_text(encoding="utf8").split("\n")[:-1]

    def table(self, name):
        return {row["id"]: row for row in pq.read_table(self.path / name).to_pylist()}

    def vocabulary(self, binding):
        key = repr(binding)
        if key not in self._vocabularies:
            values = {"items": self.item_ids, "users": self.user_ids}[binding["ids"]] if "ids" in binding \
                else binding["values"] if "values" in binding else self.lines(binding["file"])
            self._vocabularies[key] = {value: at for at, value in enumerate(values)}
        return self._vocabularies[key]

    def encode(self, entry, value):
        """The `width` numbers of one feature value (a row's column, or what a caller typed)."""
        width, offset = entry.get("width", 1), entry.get("offset", 0)
        oov, missing, pad = entry.get("oov", 0), entry.get("missing", 0), entry.get("pad", 0)
        if "vocabulary" in entry:
            index = self.vocabulary(entry["vocabulary"])

            def number(word):
                return index[word] + offset if word in index else oov
        else:
            def number(word):
                return float(word)
        if width == 1:
            found = missing if value is None else number(value)
            return [missing if found == "skip" else found]
        found = [n for n in map(number, value or ()) if n != "skip"]
        found = found[-width:] if entry.get("truncate", "first") == "last" else found[:width]
        return found + [pad] * (width - len(found))

    def tensor(self, binding, pairs):
        """One model input for a list of pairs: {'user', 'item', 'user_embedding', 'item_embedding', 'score', 'rank'}."""
        out = []
        for pair in pairs[:1] if binding.get("broadcast") else pairs:
            row = []
            for entry in binding.get("pack", [binding]):
                source = entry["source"]
                if source in ("user_embedding", "item_embedding"):
                    row.extend(pair[source])
                elif source.startswith("retrieval."):
                    row.append(pair[source.split(".")[1]])
                elif source == "constant":
                    row.extend([entry["value"]] * entry.get("width", 1))
                else:
                    side, column = source.split(".", 1)
                    row.extend(self.encode(entry, pair[side].get(column)))
            out.append(row)
        return np.array(out, dtype=DTYPES[binding["dtype"]])

    def inputs(self, model, pairs):
        return {name: self.tensor(binding, pairs) for name, binding in self.rows[model]["inputs"].items()}

    def session(self, relative):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        return onnxruntime.InferenceSession(self.path / relative, options, providers=["CPUExecutionProvider"])
