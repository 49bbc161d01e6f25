import os

import numpy as np
import svs

from engine import Base


class Engine(Base):
    """Vamana over LVQ codes (`lvq`: bits of the first and second level), or over float16 values where `lvq` is absent."""

    package = "scalable-vs"
    many = True

    def distance(self):
        return svs.DistanceType.L2 if self.metric == "l2" else svs.DistanceType.MIP

    def build(self, items):
        parameters = svs.VamanaBuildParameters(
            graph_max_degree=self.params["degree"],
            window_size=self.params["window"],
            alpha=1.2 if self.metric == "l2" else 0.95,
        )
        data = self.codes_of(items) if "lvq" in self.params else items.astype(np.float16)
        self.index = svs.Vamana.build(parameters, data, self.distance(), num_threads=self.threads)

    def codes_of(self, items):
        svs.write_vecs(items, self.path("items.fvecs"))
        raw = svs.VectorDataLoader(self.path("items.fvecs"), svs.DataType.float32, dims=items.shape[1])
        primary, residual = self.params["lvq"]
        return svs.LVQLoader(raw, primary=primary, residual=residual)

    def save(self):
        self.index.save(self.path("config"), self.path("graph"), self.path("data"))
        if os.path.exists(self.path("items.fvecs")):
            os.remove(self.path("items.fvecs"))

    def load(self):
        if "lvq" in self.params:
            data = svs.LVQLoader(self.path("data"))
        else:
            data = svs.VectorDataLoader(self.path("data"), svs.DataType.float16)
        self.index = svs.Vamana(
            self.path("config"), svs.GraphLoader(self.path("graph")), data, self.distance(), num_threads=1
        )

    def search(self, params, k):
        parameters = self.index.search_parameters
        parameters.buffer_config = svs.SearchBufferConfig(max(k, params["window"]))
        self.index.search_parameters = parameters
        return lambda queries: self.index.search(queries, k)[0]
