"""An encoding of a training set that is killed: `killed_encoding.py PHOTOS OUTPUT MODEL KILLS SEED`.

Children are forked after the imports, each encodes until it is killed; the last one ends by itself. Prints what happened as one
line of JSON: how many were killed, in how many of them a shard was being written, and how many shards each found.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from tenth.data.faces.crops import PhotoDataset
from tenth.training.adapter import sharded_encoding
from tenth.training.adapter.sharded_encoding import EncodeOptions, encode_training_set
from toy_encoding import load_toy_networks

SHARD_PHOTOS = 1


def child(data: PhotoDataset, output: Path, model: str) -> int:
    process = os.fork()
    if process == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            sharded_encoding.load_model = load_toy_networks
            encode_training_set(data, output, model, EncodeOptions(), SHARD_PHOTOS)
            code = 0
        finally:
            os._exit(code)
    return process


def events(output: Path) -> int:
    """How far it is: files that are there, and those that are being written."""
    return sum(len(names) for _, _, names in os.walk(output))  # not rglob: a file may go while it looks


def main() -> None:
    photos, output, rng = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[5]))
    data, model, killed, in_write, found = PhotoDataset(photos / "people.jsonl", photos), sys.argv[3], 0, 0, []
    while killed < int(sys.argv[4]):
        found.append(len(list(output.glob("shards/*.json"))))
        before = events(output)
        process = child(data, output, model)
        wanted = before + rng.randint(0, 2)
        while events(output) < wanted and not os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFEXITED(status):
            break
        killed += 1
        in_write += bool(list(output.rglob("*.part")))
    _, status = os.waitpid(child(data, output, model), 0)
    print(json.dumps({"killed": killed, "in_write": in_write, "found": found, "ended": status}))


if __name__ == "__main__":
    main()
