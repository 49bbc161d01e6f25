"""Debian package metadata -> users, items, relations and a seeded split.

    apt-cache dumpavail > build/available.txt
    python data.py --available build/available.txt --work build

A relation is "package U names package V" in Pre-Depends, Depends, Recommends or Suggests (the first
alternative of `a | b` that is a real package). Items are the packages that at least two others relate to,
users the packages with at least four relations to items. Only facts are kept: names, sections, tags,
sizes, maintainer names, source names. Descriptions are never read.

The split, per user, seeded:
    test   one relation of every user; it is used by evaluate.py and by nothing else
    stack  one more relation of every user that keeps at least three; the re-rankers learn from it,
           because the retrieval model has not seen it. One user in ten of these is the validation set
    train  the rest
Packages with two or three relations are no users, but the re-rankers can learn from them: `extra` holds one relation
of each out. Neither the retrieval model nor the test knows them.
Everything that depends on relations (history, popularity, relates_to, baselines) is computed here
from the named parts, so that no later script has to remember what it must not see.
"""

import argparse
import json
import random
import re
from collections import Counter
from pathlib import Path

SEED = 20260119
RELATION_FIELDS = ("Pre-Depends", "Depends", "Recommends", "Suggests")
NAME = re.compile(r"^([a-z0-9][a-z0-9+.\-]+)")
KEPT_FIELDS = {*RELATION_FIELDS, "Package", "Section", "Priority", "Architecture", "Installed-Size",
               "Maintainer", "Source", "Tag"}


def read_packages(path):
    """One dict of kept fields for each package name; the first stanza of a name wins."""
    packages = {}
    stanza, field = {}, None
    with open(path, encoding="utf8") as lines:
        for line in [*lines, "\n"]:
            line = line.rstrip("\n")
            if not line:
                if "Package" in stanza:
                    packages.setdefault(stanza["Package"], stanza)
                stanza, field = {}, None
            elif line[0] in " \t":
                if field:
                    stanza[field] += line
            else:
                name, _, value = line.partition(":")
                field = name if name in KEPT_FIELDS else None
                if field:
                    stanza[field] = value.strip()
    return packages


def relations_of(stanza, packages):
    """Names that the package relates to, in the order of the fields, without repeats and without itself."""
    found = {}
    for field in RELATION_FIELDS:
        for group in stanza.get(field, "").split(","):
            for alternative in group.split("|"):
                match = NAME.match(alternative.strip())
                if match and match[1] in packages and match[1] != stanza["Package"]:
                    found[match[1]] = None
                    break
    return list(found)


def name_tokens(name):
    """libboost-filesystem1.74.0 -> lib boost filesystem 1 74 0: what a reader sees in a package name."""
    tokens = {}
    for part in re.split(r"[-+._:]+", name.lower()):
        if part.startswith("lib") and len(part) > 4:
            tokens["lib"] = None
            part = part[3:]
        for token in re.findall(r"[a-z]+|\d+", part):
            tokens[token] = None
    return list(tokens)


def attributes(name, packages):
    stanza = packages[name]
    tags = [tag.strip() for tag in stanza.get("Tag", "").split(",") if tag.strip()]
    return {
        "id": name,
        "section": stanza.get("Section"),
        "priority": stanza.get("Priority"),
        "architecture": stanza.get("Architecture"),
        "installed_size": int(stanza["Installed-Size"]) if stanza.get("Installed-Size", "").isdigit() else None,
        # The address is personal data that no model needs.
        "maintainer": re.sub(r"\s*<.*", "", stanza.get("Maintainer", "")).strip('"') or None,
        "source": stanza.get("Source", name).split(" ")[0],
        "tags": tags,
        "name_tokens": name_tokens(name),
    }


def split(relations, users, items):
    """(train, stack, test, validation users); relations as lists of item names per user."""
    rng = random.Random(SEED)
    train, stack, test = {}, {}, {}
    for user in users:
        known = [name for name in relations[user] if name in items]
        test[user] = rng.choice(known)
        known.remove(test[user])
        if len(known) >= 4:
            stack[user] = rng.choice(known)
            known.remove(stack[user])
        train[user] = known
    validation = set(rng.sample(sorted(stack), len(stack) // 10))
    return train, stack, test, validation


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--available", type=Path, default=Path("build/available.txt"))
    parser.add_argument("--work", type=Path, default=Path("build"))
    args = parser.parse_args()

    packages = read_packages(args.available)
    relations = {name: relations_of(stanza, packages) for name, stanza in packages.items()}
    named_by = Counter(target for targets in relations.values() for target in targets)
    items = sorted(name for name, count in named_by.items() if count >= 2)
    item_set = set(items)
    users = sorted(name for name, targets in relations.items() if sum(t in item_set for t in targets) >= 4)
    train, stack, test, validation = split(relations, users, item_set)

    # Relations of packages that are not users have no held-out part: they count as known.
    known = {name: [t for t in targets if t in item_set] for name, targets in relations.items()}
    for user in users:
        known[user] = [t for t in known[user] if t != test[user]]
    popularity = Counter(target for targets in known.values() for target in targets)

    # A held-out relation must not be visible from its other end either: the file is checked, not trusted.
    assert all(test[user] not in known[user] and test[user] not in train[user] for user in users)

    rng = random.Random(SEED + 1)
    extra = []
    for name in sorted(set(known) - set(users)):
        if len(known[name]) >= 2:
            held = rng.choice(known[name])
            shown = [target for target in known[name] if target != held]
            extra.append({**attributes(name, packages), "history": shown, "held": held})

    def item_row(name):
        return {**attributes(name, packages), "popularity": popularity[name], "relates_to": known[name]}

    data = {
        "seed": SEED,
        "users": [attributes(name, packages) for name in users],
        "items": [item_row(name) for name in items],
        "train": [train[user] for user in users],
        "stack": [stack.get(user) for user in users],
        "test": [test[user] for user in users],
        "known": [known[user] for user in users],
        "is_validation": [user in validation for user in users],
        "extra": extra,
    }
    args.work.mkdir(parents=True, exist_ok=True)
    (args.work / "data.json").write_text(json.dumps(data))
    print(f"{len(packages)} packages, {len(users)} users, {len(items)} items, "
          f"{sum(map(len, train.values()))} train, {len(stack)} stack ({len(validation)} validation), {len(test)} test, {len(extra)} extra")


if __name__ == "__main__":
    main()
