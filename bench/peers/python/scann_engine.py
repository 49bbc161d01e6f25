import os

import scann

from engine import Base


class Engine(Base):
    package = "scann"

    def build(self, items):
        if self.metric == "l2":
            distance = "squared_l2"
        else:
            distance = "dot_product"
        leaves = round(len(items) ** 0.5 * self.params["leavesPerRoot"])
        builder = scann.scann_ops_pybind.builder(items, 10, distance)
        builder = builder.tree(leaves, leaves // 10, training_sample_size=min(len(items), 250_000))
        builder = builder.score_ah(2, anisotropic_quantization_threshold=self.params["threshold"])
        builder = builder.reorder(100).set_n_training_threads(self.threads)
        self.index = builder.build()

    def save(self):
        os.makedirs(self.path("scann"), exist_ok=True)
        self.index.serialize(self.path("scann"))

    def load(self):
        self.index = scann.scann_ops_pybind.load_searcher(self.path("scann"))
        self.index.set_num_threads(1)

    def search(self, params, k):
        leaves, reorder = params["leaves"], max(k, params["reorderPerK"] * k)
        return lambda query: self.index.search(
            query, final_num_neighbors=k, pre_reorder_num_neighbors=reorder, leaves_to_search=leaves
        )[0]
