import rabitqlib

from engine import Base


class Engine(Base):
    """SymphonyQG: neighbours' 1-bit codes inlined into the graph."""

    package = "rabitqlib"
    many = True

    def build(self, items):
        # Unit vectors are ranked alike by l2 and by product; l2 is what the graph was made for.
        metric = "ip" if self.metric == "ip" else "l2"
        self.index = rabitqlib.SymqgIndex(items.shape[1], self.params["degree"], metric)
        self.index.build(items, self.params["efConstruction"], num_threads=self.threads)

    def save(self):
        self.index.save(self.path("index.symqg"))

    def load(self):
        self.index = rabitqlib.SymqgIndex.load(self.path("index.symqg"))

    def search(self, params, k):
        ef = params["ef"]
        return lambda queries: self.index.search(queries, k, ef, num_threads=1)[0]
