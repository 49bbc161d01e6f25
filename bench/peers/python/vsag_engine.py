import json

import numpy as np
import pyvsag

from engine import Base

#: knn_search answers (ids, distances)
IDS = 0


class Engine(Base):
    package = "pyvsag"

    def create(self, dims):
        parameters = {
            "dtype": "float32",
            "metric_type": "l2" if self.metric == "l2" else "ip",
            "dim": dims,
            "index_param": {
                "base_quantization_type": self.params["quantization"],
                "max_degree": self.params["degree"],
                "ef_construction": self.params["efConstruction"],
                "build_thread_count": self.threads,
                "use_reorder": True,
                "precise_quantization_type": "fp32",
            },
        }
        return pyvsag.Index("hgraph", json.dumps(parameters))

    def build(self, items):
        self.index = self.create(items.shape[1])
        self.index.build(items.ravel(), np.arange(len(items), dtype=np.int64), len(items), items.shape[1])

    def save(self):
        self.index.save(self.path("index.vsag"))

    def load(self):
        self.index = self.create(np.load(self.task["items"], mmap_mode="r").shape[1])
        self.index.load(self.path("index.vsag"))

    def search(self, params, k):
        text = json.dumps({"hgraph": {"ef_search": params["ef"]}})
        return lambda query: self.index.knn_search(query, k, text)[IDS]
