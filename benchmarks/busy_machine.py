"""Images of the pocket model on an idle machine, and beside one busy process on each core.

    python benchmarks/busy_machine.py [--rounds=5] [--policies] [--tiny]

Each figure is the median of --rounds=5 batches of four, warm, of one fresh process that draws first alone, then beside the busy
ones. busy: seconds beside them over idle seconds. --policies: also with OpenMP's own waiting and with one thread, which is what
a user would set instead. Prints a line each, and one JSON object as its last line; ratio: idle seconds over busy seconds.
"""

import json
import multiprocessing
import os
import subprocess
import sys

POLICIES = {"tenth's": {}, "OpenMP's own": {"OMP_WAIT_POLICY": "ACTIVE"}, "one thread": {"OMP_NUM_THREADS": "1"}}
WORK = """
import json, statistics, sys, time
import tenth
from tenth.core.types import Identity
import torch
model, rounds, steps = tenth.load_model(), *map(int, sys.argv[1:])
rows = torch.zeros(1, model.encoder.embedding_dim)
identity = Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, rows)
requests = [tenth.Request(identity, "a portrait photo of a person", seed) for seed in range(4)]
for _ in range(2):
    seconds = []
    for _ in range(rounds + 1):  # the first warms up
        start = time.perf_counter()
        list(tenth.generate(model, requests, tenth.SamplingConfig(steps=steps or None)))
        seconds.append((time.perf_counter() - start) / len(requests))
    found = {"seconds": statistics.median(seconds[1:]), "backend": model.backend_name(identity, "auto")}
    print(json.dumps(found | {"threads": torch.get_num_threads()}), flush=True)
    input()
"""


def option(name: str, default: int) -> int:
    return next((int(word.partition("=")[2]) for word in sys.argv if word.startswith(f"--{name}=")), default)


def spin() -> None:
    while True:
        pass


def measure(policy: dict[str, str], rounds: int, steps: int) -> list[dict[str, object]]:
    """What a process says on an idle machine, then on a busy one."""
    words = [sys.executable, "-c", WORK, str(rounds), str(steps)]
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    with subprocess.Popen(words, env=os.environ | policy, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = (json.loads(line) for line in process.stdout if line.startswith("{"))
        found = [next(said)]
        for other in others:
            other.start()
        try:
            print(file=process.stdin, flush=True)
            found.append(next(said))
        finally:
            for other in others:
                other.terminate()
                other.join()
        process.communicate("\n")
    return found


def main() -> None:
    rounds, steps = (1, 1) if "--tiny" in sys.argv else (option("rounds", 5), 0)
    result: dict[str, object] = {"name": "busy_machine", "cores": os.cpu_count()}
    for name, policy in POLICIES.items() if "--policies" in sys.argv else [("tenth's", {})]:
        idle, busy = measure(policy, rounds, steps)
        seconds = [float(str(each["seconds"])) for each in (idle, busy)]
        found = {"idle": round(seconds[0], 3), "busy": round(seconds[1], 3), "times": round(seconds[1] / seconds[0], 2)}
        found |= {"backend": idle["backend"], "threads": idle["threads"]}
        print(f"{name:14}", found, flush=True)
        result[name] = found
        if name == "tenth's":
            result["ratio"] = round(seconds[0] / seconds[1], 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
