"""From rows of data.json to the integer and float matrices that the models read.

The packed layouts below are the single source of what `registry.yaml` declares: export.py writes the
binding from them, the models slice their columns by them. Index 0 always means "nothing here": padding,
a missing value, an unknown value.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HISTORY_WIDTH = 48
TAGS_WIDTH = 12
TOKENS_WIDTH = 10


@dataclass(frozen=True)
class Column:
    """`width` columns of a packed matrix: encoded through `vocabulary`, or a plain number without one."""

    name: str
    width: int = 1
    vocabulary: str | None = None


USER_LAYOUT = (
    Column("history", HISTORY_WIDTH, "items"),
    Column("tags", TAGS_WIDTH, "tags"),
    Column("name_tokens", TOKENS_WIDTH, "name_tokens"),
    Column("section", 1, "sections"),
    Column("priority", 1, "priorities"),
    Column("architecture", 1, "architectures"),
    Column("maintainer", 1, "maintainers"),
    Column("source", 1, "sources"),
    Column("installed_size"),
)
ITEM_LAYOUT = (
    Column("id", 1, "items"),
    Column("tags", TAGS_WIDTH, "tags"),
    Column("name_tokens", TOKENS_WIDTH, "name_tokens"),
    Column("section", 1, "sections"),
    Column("priority", 1, "priorities"),
    Column("architecture", 1, "architectures"),
    Column("maintainer", 1, "maintainers"),
    Column("source", 1, "sources"),
    Column("installed_size"),
)

# Inputs of the re-rankers, by name. `source` is what the registry calls the origin of a value.
DENSE = ("retrieval.score", "retrieval.rank", "item.popularity", "item.installed_size", "user.installed_size")
SPARSE_USER = (
    Column("id", 1, "items"),
    Column("section", 1, "sections"),
    Column("priority", 1, "priorities"),
    Column("architecture", 1, "architectures"),
    Column("maintainer", 1, "maintainers"),
    Column("source", 1, "sources"),
    Column("tags", TAGS_WIDTH, "tags"),
    Column("name_tokens", TOKENS_WIDTH, "name_tokens"),
)
SPARSE_ITEM = SPARSE_USER
RELATES_TO_WIDTH = 24
GOES_WITH_WIDTH = 20
HISTORY = (Column("history", HISTORY_WIDTH, "items"),)
RELATES_TO = (Column("relates_to", RELATES_TO_WIDTH, "items"),)
GOES_WITH = (Column("goes_with", GOES_WITH_WIDTH, "items"),)


def slices(layout):
    """name -> slice of the packed columns."""
    found, start = {}, 0
    for column in layout:
        found[column.name] = slice(start, start + column.width)
        start += column.width
    return found


def load(work):
    return json.loads((Path(work) / "data.json").read_text())


def frequent(values, at_least):
    counts = Counter(value for value in values if value is not None)
    return sorted(value for value, count in counts.items() if count >= at_least)


def vocabularies(data):
    """Sorted value lists; a value's index is its position + 1."""
    rows = list({row["id"]: row for row in data["users"] + data["items"]}.values())
    return {
        "items": [row["id"] for row in data["items"]],
        "sections": frequent((row["section"] for row in rows), 1),
        "priorities": frequent((row["priority"] for row in rows), 1),
        "architectures": frequent((row["architecture"] for row in rows), 1),
        "maintainers": frequent((row["maintainer"] for row in rows), 5),
        # A source of one package matches nothing else.
        "sources": frequent((row["source"] for row in rows), 2),
        "tags": frequent((tag for row in rows for tag in row["tags"]), 5),
        "name_tokens": frequent((token for row in rows for token in row["name_tokens"]), 3),
    }


def encode_list(values, width, index):
    """Unknown values are dropped before padding, the first `width` are kept."""
    known = [index[value] for value in values or () if value in index][:width]
    return known + [0] * (width - len(known))


def pack(rows, layout, vocabulary, histories=None):
    """float32 [len(rows), width]; `histories` stands in for a column of that name."""
    index = {name: {value: at + 1 for at, value in enumerate(values)} for name, values in vocabulary.items()}
    packed = np.zeros((len(rows), sum(column.width for column in layout)), np.float32)
    for at, row in enumerate(rows):
        values = []
        for column in layout:
            value = histories[at] if column.name == "history" and histories is not None else row.get(column.name)
            if column.vocabulary is None:
                values.append(0 if value is None else value)
            elif column.width == 1:
                values.append(index[column.vocabulary].get(value, 0))
            else:
                values.extend(encode_list(value, column.width, index[column.vocabulary]))
        packed[at] = values
    return packed
