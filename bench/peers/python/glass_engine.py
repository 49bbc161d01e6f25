import sys

import numpy as np

from engine import Base


class Engine(Base):
    """Glass from a path that the user gives: the folder that holds its built Python module."""

    many = True

    def __init__(self, task):
        super().__init__(task)
        sys.path.insert(0, task["paths"]["glass"])
        import glass

        self.glass = glass

    def version(self):
        return "built by the user"

    def name(self):
        return "L2" if self.metric == "l2" else "IP"

    def build(self, items):
        self.glass.set_num_threads(self.threads)
        index = self.glass.Index("HNSW", self.name(), self.params["quantization"], self.params["R"], self.params["L"])
        self.graph = index.build(items)

    def save(self):
        self.graph.save(self.path("graph.glass"))

    def load(self):
        self.glass.set_num_threads(1)
        graph = self.glass.Graph(self.path("graph.glass"), "glass")
        items = np.load(self.task["items"])
        self.searcher = self.glass.Searcher(graph, items, self.name(), self.params["quantization"], "FP32")
        self.searcher.optimize(1)

    def search(self, params, k):
        self.searcher.set_ef(max(k, params["ef"]))
        return lambda queries: self.searcher.batch_search(queries, k, 1)[0]
