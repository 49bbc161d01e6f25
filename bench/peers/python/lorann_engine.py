import lorann
import numpy as np

from engine import Base


class Engine(Base):
    package = "lorann"

    def build(self, items):
        distance = lorann.L2 if self.metric == "l2" else lorann.IP
        clusters = round(len(items) ** 0.5 * self.params["clustersPerRoot"])
        self.index = lorann.LorannIndex(
            data=items,
            n_clusters=clusters,
            global_dim=None if items.shape[1] < 200 else 128,
            quantization_bits=8,
            rank=self.params["rank"],
            train_size=self.params["trainSize"],
            distance=distance,
        )
        users = self.task["users"]
        training = None if users is None else np.load(users)
        self.index.build(n_threads=self.threads, **({} if training is None else {"training_queries": training}))

    def save(self):
        self.index.save(self.path("index.lorann"))

    def load(self):
        self.index = lorann.LorannIndex.load(self.path("index.lorann"))

    def search(self, params, k):
        clusters, rerank = params["clusters"], params["rerankPerK"] * k
        return lambda query: self.index.search(query, k, clusters, rerank, n_threads=1)
