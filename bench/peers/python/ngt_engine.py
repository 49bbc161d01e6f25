import ngtpy

from engine import Base


class Engine(Base):
    """ONNG: an ANNG whose edges were optimised. NGT's quantised graphs need its `qbg` tool, which the wheel does not hold."""

    package = "ngt"

    def build(self, items):
        distance = {"cosine": "Normalized Cosine", "ip": "Inner Product", "l2": "L2"}[self.metric]
        ngtpy.create(
            self.path("anng"),
            items.shape[1],
            edge_size_for_creation=self.params["edges"],
            edge_size_for_search=40,
            distance_type=distance,
        )
        index = ngtpy.Index(self.path("anng"), log_disabled=True)
        index.batch_insert(items, num_threads=self.threads)
        index.save()
        index.close()
        optimizer = ngtpy.Optimizer(
            num_of_outgoings=self.params["outgoing"], num_of_incomings=self.params["incoming"], log_disabled=True
        )
        optimizer.set_processing_modes(search_parameter_optimization=False, prefetch_parameter_optimization=True)
        optimizer.execute(self.path("anng"), self.path("onng"))

    def save(self):
        pass  # it is on disk

    def load(self):
        self.index = ngtpy.Index(self.path("onng"), read_only=True, log_disabled=True)

    def search(self, params, k):
        epsilon = params["epsilon"]
        return lambda query: self.index.search(query, size=k, epsilon=epsilon, with_distance=False)
