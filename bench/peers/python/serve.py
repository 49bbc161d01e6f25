"""One Python engine in a process of its own: builds its index into a cache folder, or loads it and answers trials.

    python serve.py build '<task>'   builds and saves; prints {"build_s"} as one JSON line
    python serve.py serve '<task>'   loads, prints {"ready"}; then one JSON trial a line on stdin, one JSON answer a line

task: {adapter, folder, items, queries, users, metric, params, threads, paths}. Vectors are f32 .npy files; for cosine they have
unit length. A trial is {params, k, seconds, out}: rows are written to `out` as int32, queries x k, -1 where there is none.
"""

import ctypes
import gc
import importlib
import json
import os
import sys
import time

# Engines count the machine's CPUs when they load; a trial is one thread.
task = json.loads(sys.argv[2])
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(task["threads"])
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy as np  # noqa: E402


def resident():
    """Resident bytes: anonymous (with shared and huge pages), and pages of mapped files."""
    anonymous = mapped = 0
    with open("/proc/self/status") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key in ("RssAnon", "RssShmem", "HugetlbPages"):
                anonymous += int(value.split()[0]) * 1024
            elif key == "RssFile":
                mapped += int(value.split()[0]) * 1024
    return {"anonymous": anonymous, "mapped": mapped}


def settle():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident()


def say(message):
    sys.__stdout__.write(json.dumps(message) + "\n")
    sys.__stdout__.flush()


def measure(engine, queries, trial):
    k = trial["k"]
    search = engine.search(trial["params"], k)
    if engine.many:
        # The call takes a list of queries and answers one after the other on one thread.
        def run():
            return np.asarray(search(queries))
    else:

        def run():
            return [search(query) for query in queries]

    search(queries[:50] if engine.many else queries[0])
    passes = 0
    start = time.perf_counter()
    while passes == 0 or time.perf_counter() - start < trial["seconds"]:
        found = run()
        passes += 1
    elapsed = time.perf_counter() - start
    rows = np.full((len(queries), k), -1, np.int32)
    for i, row in enumerate(found):
        row = np.asarray(row)[:k]
        rows[i, : len(row)] = row.astype(np.int64)
    rows.tofile(trial["out"])
    return {"queries": passes * len(queries), "seconds": elapsed, "resident": resident()}


def main():
    os.dup2(2, 1) if sys.argv[1] == "build" else None
    module = importlib.import_module(task["adapter"])
    engine = module.Engine(task)
    if sys.argv[1] == "build":
        items = np.load(task["items"])
        start, cpu_start = time.perf_counter(), time.process_time()
        engine.build(items)
        built, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        engine.save()
        with open(os.path.join(task["folder"], "build.json.tmp"), "w") as out:
            record = {"build_s": built, "build_cpu_s": cpu, "threads": task["threads"], "version": engine.version()}
            json.dump(record, out)
        os.rename(os.path.join(task["folder"], "build.json.tmp"), os.path.join(task["folder"], "build.json"))
        return
    # Copies of libraries print to stdout; the answers go to a descriptor of their own.
    sys.__stdout__ = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    queries = np.load(task["queries"])[: task["query_count"]]
    before = settle()
    engine.load()
    say({"ready": True, "before": before, "after": settle(), "own_bytes": engine.own_bytes()})
    for line in sys.stdin:
        try:
            say(measure(engine, queries, json.loads(line)))
        except Exception as error:  # the trial fails, with its reason, not the engine
            say({"error": f"{type(error).__name__}: {error}"})


main()
