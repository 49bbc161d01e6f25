"""`mlflow server` with proxied artifacts, and a client for what a training job does there.

    python serve_mlflow.py FOLDER PORT      stops, with the processes that it starts, when standard input ends

Each line of standard input is one command in JSON; one line of JSON answers it:
    {"register": "name", "file": "/path/model.onnx", "alias": "production"}   → {"version": "1"}
    {"alias": "name", "is": "production", "version": "1"}                     → {}
    {"stage": "name", "version": "1", "is": "Production"}                     → {}
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

folder, port = Path(sys.argv[1]), sys.argv[2]
folder.mkdir(parents=True, exist_ok=True)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
url = f"http://127.0.0.1:{port}"
server = subprocess.Popen(
    [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1",
     "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
     "--serve-artifacts"],
    start_new_session=True,
    stdout=sys.stderr,
)
while True:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=1)
        break
    except OSError:
        if server.poll() is not None:
            sys.exit(1)
        time.sleep(0.2)

import mlflow  # noqa: E402
from mlflow import MlflowClient  # noqa: E402

mlflow.set_tracking_uri(url)
client = MlflowClient()
answers, sys.stdout = sys.stdout, sys.stderr  # MLflow prints, too
print(json.dumps({"ready": url}), file=answers, flush=True)
for line in sys.stdin:
    command = json.loads(line)
    answer = {}
    if "register" in command:
        name = command["register"]
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        with mlflow.start_run() as run:
            mlflow.log_artifact(command["file"], "model")
        made = client.create_model_version(name, source=f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
        client.set_registered_model_alias(name, command["alias"], made.version)
        answer = {"version": str(made.version)}
    elif "alias" in command:
        client.set_registered_model_alias(command["alias"], command["is"], command["version"])
    elif "stage" in command:
        client.transition_model_version_stage(command["stage"], command["version"], command["is"])
    print(json.dumps(answer), file=answers, flush=True)
os.killpg(server.pid, signal.SIGKILL)
