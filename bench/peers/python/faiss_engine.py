import math

import faiss

from engine import Base


class Engine(Base):
    package = "faiss-cpu"

    def __init__(self, task):
        super().__init__(task)
        # A list of queries is a loop for HNSW; IVF shares work between queries, so it gets one at a time.
        self.many = self.params["factory"].startswith("HNSW")

    def build(self, items):
        faiss.omp_set_num_threads(self.threads)
        dims = items.shape[1]
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        lists = 2 ** round(math.log2(1.7 * math.sqrt(len(items))))
        factory = self.params["factory"].replace("{halfDims}", str(dims // 2)).replace("{lists}", str(lists))
        self.index = faiss.index_factory(dims, factory, metric)
        if "efConstruction" in self.params:
            self.index.hnsw.efConstruction = self.params["efConstruction"]
        self.index.train(items)
        self.index.add(items)

    def save(self):
        faiss.write_index(self.index, self.path("index.faiss"))

    def load(self):
        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(self.path("index.faiss"))

    def search(self, params, k):
        space = faiss.ParameterSpace()
        for name, value in params.items():
            space.set_index_parameter(self.index, name, value)
        if self.many:
            return lambda queries: self.index.search(queries, k)[1]
        return lambda query: self.index.search(query[None], k)[1][0]
