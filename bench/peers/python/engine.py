"""What every Python adapter shares."""

import importlib.metadata
import os


class Base:
    #: the distribution on PyPI
    package = ""
    #: whether search() takes all queries in one call (which must not share work between them) or one query a call
    many = False

    def __init__(self, task):
        self.task = task
        self.params = task["params"]
        self.metric = task["metric"]
        self.threads = task["threads"]

    def path(self, name):
        return os.path.join(self.task["folder"], name)

    def version(self):
        return importlib.metadata.version(self.package)

    def own_bytes(self):
        """The engine's own figure of its size, where it has one."""
        return None
