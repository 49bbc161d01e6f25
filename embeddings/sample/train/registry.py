"""registry.yaml, written from the layouts of features.py so that the two cannot drift apart."""

from features import (DENSE, GOES_WITH, HISTORY, ITEM_LAYOUT, RELATES_TO, SPARSE_ITEM, SPARSE_USER, USER_LAYOUT)

HEADER = """\
# The models of this folder and what each of their inputs is made of. Written by train/export.py.
# Index 0 stands for padding, a missing value and an unknown one; known values start at 1.
"""


def entry(side, column):
    parts = [f"source: {side}.{column.name}"]
    if column.width > 1:
        parts.append(f"width: {column.width}")
    if column.vocabulary is None:
        parts.append("missing: 0")
    else:
        where = "ids: items" if column.vocabulary == "items" else f"file: features/{column.vocabulary}.txt"
        parts += [f"vocabulary: {{ {where} }}", "offset: 1", "oov: skip" if column.width > 1 else "oov: 0"]
        parts.append("pad: 0" if column.width > 1 else "missing: 0")
        if column.width > 1:
            parts.append("truncate: first")
    return "          - { " + ", ".join(parts) + " }\n"


def packed(name, dtype, entries, one_row=False):
    repeated = "        broadcast: true\n" if one_row else ""
    return f"      {name}:\n        dtype: {dtype}\n{repeated}        pack:\n" + "".join(entries)


def single(name, dtype, source, one_row=False):
    return f"      {name}: {{ dtype: {dtype}, source: {source}, width: 64{', broadcast: true' if one_row else ''} }}\n"


def reranker_inputs(one_user):
    """For a graph that takes the user as one row (serving.py), or as a row beside each candidate."""
    dense = ["          - { source: %s, missing: 0 }\n" % source for source in DENSE]
    user, item = [entry("user", column) for column in SPARSE_USER], [entry("item", column) for column in SPARSE_ITEM]
    index = "int32" if one_user else "int64"
    attributes = (packed("user", index, user, one_row=True) + packed("item", index, item)
                  if one_user else packed("sparse", index, user + item))
    return (packed("dense", "float32", dense) + attributes
            + packed("history", index, [entry("user", HISTORY[0])], one_user)
            + packed("relates_to", index, [entry("item", RELATES_TO[0])])
            + packed("goes_with", index, [entry("item", GOES_WITH[0])])
            + single("user_embedding", "float32", "user_embedding", one_user)
            + single("item_embedding", "float32", "item_embedding"))


def text():
    user = packed("user_features", "float32", [entry("user", column) for column in USER_LAYOUT])
    item = packed("item_features", "float32", [entry("item", column) for column in ITEM_LAYOUT])
    return f"""{HEADER}models:
  - model: Two-Tower
    version: "1.0"
    format: onnx
    path: exported/onnx/two_tower.onnx
    stage: production
    role: user_tower
    notes: both towers in one graph; user_tower.onnx beside it is the user part alone
    inputs:
{user}{item}    output: user_embedding

  - model: DLRM
    version: "1.0"
    format: onnx
    path: exported/onnx/dlrm.onnx
    stage: ab-test
    role: reranker
    inputs:
{reranker_inputs(one_user=True)}    output: {{ name: score, activation: none }}

  - model: DCN-v2
    version: "0.9"
    format: torchscript
    path: exported/torchscript/dcn_v2.pt
    stage: staging
    role: reranker
    inputs:
{reranker_inputs(one_user=False)}    output: {{ name: score, activation: none }}
"""


def write(path):
    path.write_text(text(), encoding="utf8")
