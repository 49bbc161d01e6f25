import voyager

from engine import Base


class Engine(Base):
    package = "voyager"
    many = True

    def build(self, items):
        space = {"cosine": voyager.Space.Cosine, "ip": voyager.Space.InnerProduct, "l2": voyager.Space.Euclidean}
        self.index = voyager.Index(
            space[self.metric],
            num_dimensions=items.shape[1],
            M=self.params["M"],
            ef_construction=self.params["efConstruction"],
            max_elements=len(items),
        )
        self.index.add_items(items, num_threads=self.threads)

    def save(self):
        self.index.save(self.path("index.voy"))

    def load(self):
        self.index = voyager.Index.load(self.path("index.voy"))

    def search(self, params, k):
        ef = max(k, params["ef"])
        return lambda queries: self.index.query(queries, k, num_threads=1, query_ef=ef)[0]
