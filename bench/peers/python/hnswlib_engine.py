import hnswlib
import numpy as np

from engine import Base


class Engine(Base):
    package = "hnswlib"
    many = True

    def build(self, items):
        space = "l2" if self.metric == "l2" else "ip"
        self.index = hnswlib.Index(space, items.shape[1])
        self.index.init_index(len(items), M=self.params["M"], ef_construction=self.params["efConstruction"])
        self.index.add_items(items, num_threads=self.threads)

    def save(self):
        self.index.save_index(self.path("index.bin"))

    def load(self):
        dims = np.load(self.task["items"], mmap_mode="r").shape[1]
        self.index = hnswlib.Index("l2" if self.metric == "l2" else "ip", dims)
        self.index.load_index(self.path("index.bin"))

    def search(self, params, k):
        self.index.set_ef(params["ef"])
        return lambda queries: self.index.knn_query(queries, k, num_threads=1)[0]
