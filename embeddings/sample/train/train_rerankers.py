"""Trains DLRM and DCN-v2 on what the two-tower retrieves.

    python train_rerankers.py --work build --model dlrm
    python train_rerankers.py --work build --model dcn_v2

Positives are the `stack` relations, which the stage-1 two-tower has not seen, and one relation of each package that
is too small to be a user, which it has not seen either: their retrieval scores are as honest as in service. Negatives come from the same 500 candidates, the first ones more often.
The loss is a softmax over each user's list. Epochs and settings were chosen on the validation users, with the
final two-tower's scores; `test` is not read.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import features
from candidates import DEPTH, build_tables, pair_inputs, retrieve
from rerankers import DcnV2, Dlrm
from two_tower import TwoTower

MODELS = {"dlrm": Dlrm, "dcn_v2": DcnV2}
LISTS = 48              # users of one step
NEGATIVES = 40          # of each: half from the first 60 candidates
HEAD = 60
SEED = 11


def training_view(work, checkpoint, data, vocabulary):
    """Tables and candidates as they were before the `stack` and `extra` relations became known."""
    index = {name: at for at, name in enumerate(vocabulary["items"])}
    people = data["users"] + data["extra"]
    histories = data["train"] + [row["history"] for row in data["extra"]]
    wanted = data["stack"] + [row["held"] for row in data["extra"]]
    held = data["is_validation"] + [False] * len(data["extra"])

    towers = TwoTower({name: len(values) for name, values in vocabulary.items()})
    towers.load_state_dict(torch.load(work / checkpoint))
    towers.eval()
    with torch.no_grad():
        packed = torch.from_numpy(features.pack(people, features.USER_LAYOUT, vocabulary, histories))
        user_vectors = torch.cat([towers.user_tower(part) for part in packed.split(2048)])
        item_vectors = towers.item_tower(torch.from_numpy(features.pack(data["items"], features.ITEM_LAYOUT, vocabulary)))

    shown = dict(zip((row["id"] for row in people), histories))
    relates_to = [shown.get(row["id"], row["relates_to"]) for row in data["items"]]
    for row, names in zip(data["items"], relates_to):
        shown.setdefault(row["id"], names)
    popularity = np.zeros(len(index), np.float32)
    np.add.at(popularity, [index[name] for names in shown.values() for name in names], 1)
    tables = build_tables(people, data["items"], vocabulary, histories, relates_to, popularity,
                          np.load(work / "goes_with_train.npy"), user_vectors, item_vectors)
    rows = [row for row, name in enumerate(wanted) if name is not None]
    known = [[index[name] for name in histories[row]] for row in rows]
    items, scores = retrieve(user_vectors[rows], item_vectors, known)
    return (tables, torch.tensor(rows), items, scores, torch.tensor([index[wanted[row]] for row in rows]),
            torch.tensor([held[row] for row in rows]))


def score_lists(model, tables, users, items, scores, batch=32):
    """Re-ranker scores [N, DEPTH]."""
    model.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(users), batch):
            part = items[start:start + batch]
            n, depth = part.shape
            inputs = pair_inputs(tables, users[start:start + batch].repeat_interleave(depth), part.flatten(),
                                 scores[start:start + batch].flatten(), torch.arange(1, depth + 1).repeat(n))
            found.append(model(*inputs).view(n, depth))
    model.train()
    return torch.cat(found)


def hit_rate(ordered_scores, items, target, k=10):
    """Share of targets among the k best; a target that was not retrieved is a miss."""
    is_target = items == target[:, None]
    best = (ordered_scores * is_target).sum(1, keepdim=True)
    rank = (ordered_scores > best).sum(1)
    return round(float(((rank < k) & is_target.any(1)).float().mean()), 4)


def train(model, view, validation_view, epochs, rate, weight_decay, path):
    """Leaves the state of the epoch that does best on validation at `path`."""
    tables, users, items, scores, target, held = view
    place = (items == target[:, None]).float().argmax(1)
    usable = ((items == target[:, None]).any(1) & ~held).nonzero()[:, 0]
    v_tables, v_users, v_items, v_scores, v_target, v_held = validation_view
    v_users, v_items, v_scores, v_target = v_users[v_held], v_items[v_held], v_scores[v_held], v_target[v_held]
    print(f"{len(usable)} lists; validation: retrieval {hit_rate(v_scores, v_items, v_target)}", flush=True)

    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=weight_decay)
    steps = epochs * -(-len(usable) // LISTS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    started, best = time.monotonic(), 0.0
    for epoch in range(epochs):
        losses = []
        for rows in usable[torch.randperm(len(usable), generator=generator)].split(LISTS):
            head = torch.rand(len(rows), HEAD, generator=generator).argsort(1)[:, :NEGATIVES // 2]
            tail = torch.randint(HEAD, DEPTH, (len(rows), NEGATIVES // 2), generator=generator)
            picked = torch.cat([place[rows][:, None], head, tail], 1)
            again = picked == place[rows][:, None]
            again[:, 0] = False
            n, width = picked.shape
            inputs = pair_inputs(tables, users[rows].repeat_interleave(width),
                                 items[rows].gather(1, picked).flatten(),
                                 scores[rows].gather(1, picked).flatten(), (picked + 1).flatten())
            output = model(*inputs).view(n, width).masked_fill(again, -1e4)
            loss = F.cross_entropy(output, torch.zeros(n, dtype=torch.long))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        reached = hit_rate(score_lists(model, v_tables, v_users, v_items, v_scores), v_items, v_target)
        print(f"epoch {epoch + 1} loss {np.mean(losses):.4f} validation {reached} "
              f"{time.monotonic() - started:.0f}s", flush=True)
        if reached > best:
            best = reached
            torch.save(model.state_dict(), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build"))
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(SEED)

    data = features.load(args.work)
    vocabulary = features.vocabularies(data)
    view = training_view(args.work, "two_tower_stage1.pt", data, vocabulary)
    final = args.work / "two_tower.pt"
    validation = training_view(args.work, final.name, data, vocabulary) if final.exists() else view
    model = MODELS[args.model]({name: len(values) for name, values in vocabulary.items()}, args.dropout)
    train(model, view, validation, args.epochs, args.rate, args.weight_decay, args.work / f"{args.model}.pt")


if __name__ == "__main__":
    main()
