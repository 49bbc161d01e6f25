"""A Feast repository with one view of users, filled, and served by `feast serve`.

    python serve_feast.py FOLDER PORT USERS.json      {"id": {"history": [...], "section": ..., "installed_size": ..., "age_days": n}}

Stops, with the processes that it starts, when standard input ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd

folder, port, users = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
folder.mkdir(parents=True, exist_ok=True)
os.chdir(folder)
os.environ["FEAST_USAGE"] = "False"

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType  # noqa: E402
from feast.types import Array, Float64, Int64, String  # noqa: E402

Path("feature_store.yaml").write_text(
    "project: belfry\nprovider: local\nregistry: registry.db\n"
    "online_store: {type: sqlite, path: online.db}\nentity_key_serialization_version: 3\n"
)
now = datetime.now(timezone.utc)
rows = [{"user_id": user, **values} for user, values in users.items()]
frame = pd.DataFrame(rows)
frame["visits"] = range(len(rows))
frame["written"] = [now - timedelta(days=row.pop("age_days", 0)) for row in rows]
frame.drop(columns="age_days", errors="ignore").to_parquet("users.parquet")
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
view = FeatureView(
    name="user_stats",
    entities=[user],
    ttl=timedelta(days=365),
    schema=[
        Field(name="history", dtype=Array(String)),
        Field(name="section", dtype=String),
        Field(name="installed_size", dtype=Float64),
        Field(name="visits", dtype=Int64),
    ],
    source=FileSource(path="users.parquet", timestamp_field="written"),
)
store = FeatureStore(".")
store.apply([user, view, FeatureService(name="retrieval", features=[view])])
store.materialize(now - timedelta(days=300), now + timedelta(minutes=1))

server = subprocess.Popen(
    [sys.executable, "-c", "from feast.cli.cli import cli; cli()", "serve", "-h", "127.0.0.1", "-p", port],
    start_new_session=True,
)


def stop_with_input():
    sys.stdin.read()
    os.killpg(server.pid, signal.SIGKILL)
    os._exit(0)


threading.Thread(target=stop_with_input, daemon=True).start()
sys.exit(server.wait())
