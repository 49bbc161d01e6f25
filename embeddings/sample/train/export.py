"""Writes the models folder (../): ONNX, TorchScript, embeddings, ids, feature tables, vocabularies, registry.

    python export.py --work build --out ..

Embedding tables are stored as int8 with one float16 scale per row, which the graph undoes after the look-up.
The embeddings are computed by the exported ONNX towers from the exported feature tables, so that a check of
one against the other compares what is really shipped.
"""

import argparse
import hashlib
import io
import json
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

import features
import registry
from candidates import DEPTH
from rerankers import DcnV2, Dlrm
from serving import INPUTS, ONE_ROW, DlrmOfOneUser
from two_tower import DIMS, TwoTower

OPSET = 18
LARGE = 250            # rows from which a table is stored in 8 bits
LIST_COLUMNS = ("tags", "name_tokens", "history", "seen", "relates_to", "goes_with")


class ByteTable(nn.Module):
    """An embedding table as int8 rows and one scale per row."""

    def __init__(self, weight):
        super().__init__()
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
        scale = scale.half().float().clamp(min=6e-8)
        self.register_buffer("rows", torch.clamp(torch.round(weight / scale), -127, 127).to(torch.int8))
        self.register_buffer("scale", scale.half())

    def forward(self, index):
        return self.rows[index].float() * self.scale[index].float()


class HalfLinear(nn.Module):
    """A linear layer whose weights are stored as float16 and used as float32."""

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().half())
        self.bias = linear.bias

    def forward(self, inputs):
        return nn.functional.linear(inputs, self.weight.float(), self.bias)


def shrink(module):
    """Replaces the large embedding tables and layers of a module, in place; a shared one stays shared."""
    done = {}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Embedding) and child.num_embeddings >= LARGE:
                parent._modules[name] = done.setdefault(id(child), ByteTable(child.weight.detach()))
            elif isinstance(child, nn.Linear) and child.weight.numel() >= 16 * LARGE:
                parent._modules[name] = done.setdefault(id(child), HalfLinear(child))
    return module.eval()


def save_onnx(module, example, names, outputs, path, one_row=()):
    """
    Exports with a free first dimension, but for inputs of `one_row`, and without the source positions that the exporter
    would record.
    """
    rows = {name: torch.export.Dim(f"rows_{name}") for name in names} if len(outputs) > 1 else \
        dict.fromkeys(names, torch.export.Dim("rows"))
    program = torch.onnx.export(module, tuple(example), dynamo=True, opset_version=OPSET, input_names=list(names),
                                output_names=list(outputs),
                                dynamic_shapes=tuple(None if name in one_row else {0: rows[name]} for name in names),
                                external_data=False, verbose=False)
    proto = program.model_proto
    proto.producer_name, proto.producer_version, proto.doc_string = "belfry-sample", "1", ""
    proto.ir_version = min(proto.ir_version, 10)
    graph = proto.graph
    graph.name, graph.doc_string = path.stem, ""
    for part in [proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info]:
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        if hasattr(part, "doc_string"):
            part.doc_string = ""
    onnx.checker.check_model(proto, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString())


def save_torchscript(module, example, path):
    """Traces, freezes and saves; the debug records (file names and lines of the machine that traced) are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.trace(module, example)), buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as kept:
        for entry in whole.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                stored = zipfile.ZipInfo(entry.filename, (1980, 1, 1, 0, 0, 0))
                kept.writestr(stored, whole.read(entry.filename))
    torch.jit.load(str(path))


def table_of(rows, columns):
    types = {**dict.fromkeys(LIST_COLUMNS, pa.list_(pa.string())), "installed_size": pa.int32(), "popularity": pa.int32()}
    return pa.table({name: pa.array([row[name] for row in rows], types.get(name, pa.string())) for name in columns})


def run(path, output, feeds, batch=4096):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    total = max(len(value) for value in feeds.values())
    parts = [session.run([output], {name: value[at:at + batch] for name, value in feeds.items()})[0]
             for at in range(0, total, batch)]
    return np.concatenate(parts)


def write_lines(path, values):
    assert all(value and value == value.strip() and "\n" not in value for value in values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{value}\n" for value in values), encoding="utf8")


def export_models(work, out, sizes):
    towers = TwoTower(sizes)
    towers.load_state_dict(torch.load(work / "two_tower.pt"))
    shrink(towers)
    user_width = sum(column.width for column in features.USER_LAYOUT)
    item_width = sum(column.width for column in features.ITEM_LAYOUT)
    user, item = torch.ones(3, user_width), torch.ones(5, item_width)
    save_onnx(towers, (user, item), ("user_features", "item_features"), ("user_embedding", "item_embedding"),
              out / "exported/onnx/two_tower.onnx")
    save_onnx(towers.user_tower, (user,), ("user_features",), ("user_embedding",), out / "exported/onnx/user_tower.onnx")

    user, item = (sum(column.width for column in layout) for layout in (features.SPARSE_USER, features.SPARSE_ITEM))

    def indices(width):
        return torch.ones(3, width, dtype=torch.long)

    pair = (torch.ones(3, len(features.DENSE)), indices(user + item), indices(features.HISTORY_WIDTH),
            indices(features.RELATES_TO_WIDTH), indices(features.GOES_WITH_WIDTH), torch.ones(3, DIMS), torch.ones(3, DIMS))
    dlrm = Dlrm(sizes)
    dlrm.load_state_dict(torch.load(work / "dlrm.pt"))
    export_dlrm(shrink(dlrm), sizes, user, out / "exported/onnx/dlrm.onnx")
    dcn = DcnV2(sizes)
    dcn.load_state_dict(torch.load(work / "dcn_v2.pt"))
    save_torchscript(shrink(dcn), pair, out / "exported/torchscript/dcn_v2.pt")


def export_dlrm(trained, sizes, user_width, path):
    """In the form that serves; its scores must be those of the model as it was trained."""
    torch.manual_seed(0)

    def random_indices(*shape):
        return torch.randint(0, min(sizes.values()) + 1, shape)

    dense, sparse = 30 * torch.rand(DEPTH, len(features.DENSE)), random_indices(DEPTH, 2 * user_width)
    sparse[:, :user_width] = sparse[0, :user_width]
    history, user_vector, item_vectors = random_indices(1, features.HISTORY_WIDTH), torch.randn(1, DIMS), torch.randn(DEPTH, DIMS)
    lists = random_indices(DEPTH, features.RELATES_TO_WIDTH), random_indices(DEPTH, features.GOES_WITH_WIDTH)
    with torch.no_grad():
        wanted = trained(dense, sparse, history.expand(DEPTH, -1), *lists, user_vector.expand(DEPTH, -1), item_vectors).numpy()
    whole = (sparse[:1, :user_width], sparse[:, user_width:], history, *lists)
    example = (dense, *(indices.int() for indices in whole), user_vector, item_vectors)
    save_onnx(DlrmOfOneUser(trained), example, INPUTS, ("score",), path, ONE_ROW)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found, = session.run(["score"], {name: value.numpy() for name, value in zip(INPUTS, example)})
    assert np.abs(found - wanted).max() < 1e-4, "the DLRM that serves and the trained one disagree"


def export_tables(work, out, data, vocabulary):
    names = vocabulary["items"]
    goes_with = np.load(work / "goes_with_known.npy")
    # `seen` is what exclude_seen leaves out: the history, and the package itself.
    users = [{**row, "history": known, "seen": [*known, row["id"]]} for row, known in zip(data["users"], data["known"])]
    items = [{**row, "goes_with": [names[at - 1] for at in best if at]} for row, best in zip(data["items"], goes_with)]
    for row in items:
        row["relates_to"] = row["relates_to"][:features.RELATES_TO_WIDTH]
    shared = ["id", "section", "priority", "architecture", "installed_size", "maintainer", "source", "tags", "name_tokens"]
    (out / "features").mkdir(parents=True, exist_ok=True)
    for rows, columns, file in ((users, [*shared, "history", "seen"], "users.parquet"),
                                (items, [*shared, "popularity", "relates_to", "goes_with"], "items.parquet")):
        pq.write_table(table_of(rows, columns), out / "features" / file, compression="zstd", compression_level=19, version="1.0",
                       data_page_version="1.0", store_schema=False)
    # What no model has seen, for `belfry bench quality`.
    (out / "interactions").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"user_id": [row["id"] for row in users], "item_id": data["test"]}),
                   out / "interactions/held_out.parquet", compression="zstd", compression_level=19, version="1.0",
                   data_page_version="1.0", store_schema=False)
    for name, values in vocabulary.items():
        if name != "items":         # item_ids.txt is that vocabulary
            write_lines(out / "features" / f"{name}.txt", values)
    write_lines(out / "embeddings/item_ids.txt", names)
    write_lines(out / "embeddings/user_ids.txt", [row["id"] for row in users])
    return users, items


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build"))
    parser.add_argument("--out", type=Path, default=Path(".."))
    args = parser.parse_args()
    torch.set_num_threads(2)
    data = features.load(args.work)
    vocabulary = features.vocabularies(data)
    sizes = {name: len(values) for name, values in vocabulary.items()}
    users, items = export_tables(args.work, args.out, data, vocabulary)
    export_models(args.work, args.out, sizes)
    registry.write(args.out / "registry.yaml")

    onnx_folder = args.out / "exported/onnx"
    user_features = features.pack(users, features.USER_LAYOUT, vocabulary)
    item_features = features.pack(items, features.ITEM_LAYOUT, vocabulary)
    user_vectors = run(onnx_folder / "user_tower.onnx", "user_embedding", {"user_features": user_features})
    session = onnxruntime.InferenceSession(onnx_folder / "two_tower.onnx", providers=["CPUExecutionProvider"])
    item_vectors = np.concatenate([
        session.run(["item_embedding"], {"user_features": user_features[:1], "item_features": part})[0]
        for part in np.array_split(item_features, 8)])
    both = session.run(["user_embedding"], {"user_features": user_features[:64], "item_features": item_features[:1]})[0]
    assert np.abs(both - user_vectors[:64]).max() < 1e-4, "user_tower.onnx and two_tower.onnx disagree"
    for name, vectors in (("user", user_vectors), ("item", item_vectors)):
        stored = vectors.astype(np.float16)
        assert np.isfinite(stored).all() and (np.abs(stored).sum(1) > 0).all()
        np.save(args.out / f"embeddings/{name}_embeddings.npy", stored)
    (args.out / "embeddings/export.json").write_text(json.dumps({
        "model": "Two-Tower", "version": "1.0", "metric": "ip", "normalised": False, "dims": DIMS,
        "example_users": ["python3-pandas", "gimp", "nginx", "vlc", "postgresql-15", "ruby-rails"],
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "checkpoint": "sha256:" + hashlib.sha256((onnx_folder / "two_tower.onnx").read_bytes()).hexdigest(),
    }, indent=2) + "\n")
    for path in sorted(p for p in args.out.rglob("*") if p.is_file() and "train" not in p.parts):
        print(f"{path.stat().st_size:>9} {path.relative_to(args.out)}")


if __name__ == "__main__":
    main()
