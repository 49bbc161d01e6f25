"""Trains the two-tower model: full softmax over all items, known relations hidden at random.

    python train_two_tower.py --work build                  stage 1: learns from `train`
    python train_two_tower.py --work build --refit          stage 2: goes on with `train` + `stack`

Each step hides some relations of a user and asks for them from the rest, as the test will. Attributes are
dropped at random too, so that a caller may leave any of them out. Validation is the `stack` relation of
the validation users; nothing here reads `test`. Stage 1 exists for the re-rankers: they must learn from
retrieval scores of relations that the retrieval model has not seen.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch

import features
from full_softmax import FullSoftmax
from two_tower import TwoTower

BATCH = 512
HISTORY_SPAN = 64          # relations of one user that a step can look at
SEED = 7


def padded(lists, index, width):
    """int64 [N, width] of item index + 1, and for each row how many there are."""
    table = np.zeros((len(lists), width), np.int64)
    for row, names in enumerate(lists):
        known = [index[name] + 1 for name in names][:width]
        table[row, :len(known)] = known
    return torch.from_numpy(table)


def hide_relations(known, generator):
    """Splits each row of known relations into (history, hidden mask): at least one is hidden."""
    rows, width = known.shape
    present = known != 0
    count = present.sum(1)
    # Half of the rows hide one relation, as in the test; the rest up to four fifths of them, for more signal
    # and because a new user may come with two or three names only.
    share = torch.rand(rows, generator=generator) * 0.8
    some = (share * count).long().clamp(min=1)
    hide = torch.where(torch.rand(rows, generator=generator) < 0.5, torch.ones_like(some), some)
    order = torch.rand(rows, width, generator=generator).masked_fill(~present, 2).argsort(1).argsort(1)
    hidden = (order < hide[:, None]) & present
    history = known.masked_fill(hidden, 0)
    # Shown relations first, in random order, so that truncation keeps a random part of long ones.
    front = torch.rand(rows, width, generator=generator).masked_fill(history == 0, 2).argsort(1)
    return history.gather(1, front)[:, :features.HISTORY_WIDTH], hidden


def drop_attributes(packed, at, generator, chance=0.1):
    """Zeroes each attribute of a row with `chance`, now and then all of them, now and then the history."""
    rows = len(packed)
    everything = torch.rand(rows, generator=generator) < 0.1
    for name, columns in at.items():
        if name == "history":
            drop = (torch.rand(rows, generator=generator) < 0.04) & ~everything
        else:
            drop = (torch.rand(rows, generator=generator) < chance) | everything
        packed[drop, columns] = 0
    return packed


def recall(model, users, items, history, targets, ks=(10, 100)):
    """Share of rows whose target is among the k best items outside the history."""
    model.eval()
    with torch.no_grad():
        vectors = model.item_tower(items)
        ranks = []
        for start in range(0, len(users), 1024):
            scores = model.user_tower(users[start:start + 1024]) @ vectors.T
            seen = history[start:start + 1024]
            rows = torch.arange(len(scores))[:, None].expand_as(seen)
            keep = seen != 0
            scores[rows[keep], seen[keep] - 1] = -math.inf
            target = scores.gather(1, targets[start:start + 1024, None])
            ranks.append((scores > target).sum(1))
        ranks = torch.cat(ranks)
    model.train()
    return {k: round(float((ranks < k).float().mean()), 4) for k in ks}


def train(model, users, known, own, items, epochs, rate, validate, weight_decay):
    generator = torch.Generator().manual_seed(SEED)
    at = features.slices(features.USER_LAYOUT)
    tables = [p for n, p in model.named_parameters() if p.ndim == 2 and "Linear" not in n and p.shape[0] > 1000]
    others = [p for p in model.parameters() if all(p is not t for t in tables)]
    optimizer = torch.optim.AdamW([{"params": tables, "weight_decay": weight_decay},
                                   {"params": others, "weight_decay": weight_decay / 4}], lr=rate)
    steps = math.ceil(len(users) / BATCH) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    for epoch in range(epochs):
        losses = []
        for rows in torch.randperm(len(users), generator=generator).split(BATCH):
            history, hidden = hide_relations(known[rows], generator)
            packed = users[rows].clone()
            packed[:, at["history"]] = history.float()
            packed = drop_attributes(packed, at, generator)
            vectors, candidates = model(packed, items)
            shown = history != 0                             # the answer is never a known relation
            at_row = torch.arange(len(rows))[:, None]
            wanted = (at_row.expand_as(hidden)[hidden], known[rows][hidden] - 1)
            share = (1 / hidden.sum(1))[wanted[0]]
            is_item = own[rows] != 0
            loss = FullSoftmax.apply(vectors, candidates, (at_row.expand_as(shown)[shown], history[shown] - 1),
                                     (at_row[is_item][:, 0], own[rows][is_item] - 1), wanted, share)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if epoch % 5 == 4 or epoch == epochs - 1:
            print(f"epoch {epoch + 1} loss {np.mean(losses):.4f} validation {validate()} "
                  f"{time.monotonic() - started:.0f}s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build"))
    parser.add_argument("--refit", action="store_true")
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--dropout", type=float, default=0.15)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--out", type=str, default="")
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(SEED)

    data = features.load(args.work)
    vocabulary = features.vocabularies(data)
    index = {name: at for at, name in enumerate(vocabulary["items"])}
    users = torch.from_numpy(features.pack(data["users"], features.USER_LAYOUT, vocabulary, data["train"]))
    items = torch.from_numpy(features.pack(data["items"], features.ITEM_LAYOUT, vocabulary))
    model = TwoTower({name: len(values) for name, values in vocabulary.items()}, args.dropout)

    known = [list(names) for names in data["train"]]
    if args.refit:
        model.load_state_dict(torch.load(args.work / "two_tower_stage1.pt"))
        for names, extra, held in zip(known, data["stack"], data["is_validation"]):
            if extra is not None and not held:
                names.append(extra)

    held = torch.tensor([row for row, flag in enumerate(data["is_validation"]) if flag])
    targets = torch.tensor([index[data["stack"][row]] for row in held.tolist()])
    seen = padded([data["train"][row] for row in held.tolist()], index, 512)

    def validate():
        return recall(model, users[held], items, seen, targets)

    own = torch.tensor([index.get(row["id"], -1) + 1 for row in data["users"]])
    train(model, users, padded(known, index, HISTORY_SPAN), own, items, args.epochs or (8 if args.refit else 32),
          args.rate or (1e-3 if args.refit else 4e-3), validate, args.weight_decay)
    out = args.out or ("two_tower.pt" if args.refit else "two_tower_stage1.pt")
    torch.save(model.state_dict(), args.work / out)


if __name__ == "__main__":
    main()
