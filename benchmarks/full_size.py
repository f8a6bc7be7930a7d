"""Photos to one picture with a model of the published size of a family, random weights, on the CPU.

FAMILY is sd15, sdxl or flux2-klein (from text alone; --layers: see large_flow.py). Options: --pixels=N (what the model draws),
--steps=N, --profile=NAME (default: the first that fits), --tiny (for a test of this file). It makes the folder in TMPDIR (4 GB,
of SDXL 9 GB, of klein 16 GB) and removes it; a process of its own draws, and gives up when less than 2 GB of the machine's
memory are left. --write=FOLDER makes the folder and --draw=FOLDER draws, each alone.
Prints one JSON object as its last line. estimate: what memory.py expected before loading; measured: by how much the process's
largest resident memory grew; unmapped: the same without pages of files, which the system may take back at any time (megabytes).
over: measured over estimate; with the profiles `mapped`, `int8` and `nf4` unmapped over estimate.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

import tenth
from tenth.data.photo_folder import read_person
from tenth.experiments.costs import STATUS, measure_cost
from tenth.methods.registry import method
from tenth.models.memory.planner import LoadOptions
from tenth.models.memory.system import free_memory
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import load_model

LEAST = 2_000_000_000  # bytes that are left to the machine's other work
FLOW = "flux2-klein"
DISK = {"sd15": 5_000_000_000, "sdxl": 10_000_000_000, FLOW: 17_000_000_000}
PROMPT = "a portrait photo of a person"


def option(name: str, default: str) -> str:
    return next((word.partition("=")[2] for word in sys.argv if word.startswith(f"--{name}=")), default)


def resident(kind: str) -> int:
    """Megabytes."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{kind}:"))
    return round(int(line.split()[1]) * 1024 / 1e6)


def watch(most: dict[str, int]) -> None:
    while True:
        most["RssAnon"] = max(most["RssAnon"], resident("RssAnon"))
        left = free_memory()
        if left < LEAST:
            print("less than 2 GB of memory are left: stopped", file=sys.stderr)
            os._exit(3)
        time.sleep(0.05)


def draw(folder: Path) -> None:
    most = {"RssAnon": 0}
    sampling = tenth.SamplingConfig(steps=int(option("steps", "2")))
    threading.Thread(target=watch, args=(most,), daemon=True).start()
    before, anonymous, seconds = resident("VmRSS"), resident("RssAnon"), {}
    with measure_cost() as cost:
        start = time.perf_counter()
        model = load_model(
            str(folder),
            options=LoadOptions("cpu", option("profile", ""), int(option("pixels", "0")), batch_size=1),
            on_message=lambda line: print(line, file=sys.stderr),
        )
        seconds["load"] = time.perf_counter() - start
        start = time.perf_counter()
        identity = None
        if model.adapter_name:
            identity = method("ip-adapter-consensus")(read_person(EXAMPLE_PHOTOS_DIR), model).identity
        seconds["photos"] = time.perf_counter() - start
        print(f"loaded and photos read: {seconds}, resident {resident('VmRSS')} MB", file=sys.stderr)
        (sample,) = tenth.generate(model, [tenth.Request(identity, PROMPT, 0)], sampling)
        seconds["draw"] = sample.seconds
    assert sample.pixels.std() > 1, "a picture of one colour"
    estimate, measured = round((model.memory_plan.required_bytes or 0) / 1e6), (cost.peak_memory_mb or 0) - before
    said = {
        "memory_profile": model.memory_plan.profile.name,
        "pixels": len(sample.pixels),
        "steps": sampling.steps,
        "libraries": before,
    }
    from_files = model.memory_plan.profile.weights in ("mapped", "int8", "nf4")  # whose pages were read, and may go at any time
    taken = most["RssAnon"] - anonymous if from_files else measured
    said |= {"estimate": estimate, "measured": measured, "unmapped": most["RssAnon"] - anonymous}
    said |= {
        "over": round(taken / max(estimate, 1), 3),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    print(json.dumps(said))


def write(family: str, folder: Path) -> Path:
    """The model's folder."""
    from large_flow import write_large_flow
    from large_models import SIDE, write_large

    pixels = int(option("pixels", str(SIDE)))
    return write_large_flow(folder, pixels) if family == FLOW else write_large(family, folder, pixels)


def main() -> None:
    family = next((word for word in sys.argv[1:] if word in DISK), "sd15")
    if shutil.disk_usage(tempfile.gettempdir()).free < 1.2 * DISK[family]:
        sys.exit(f"{1.2 * DISK[family] / 1e9:.0f} GB of disk are needed in {tempfile.gettempdir()}")
    from large_flow import networks as flow_networks
    from large_models import SIDE, networks

    with tempfile.TemporaryDirectory() as temporary:
        start, pixels = time.perf_counter(), int(option("pixels", str(SIDE)))
        folder = write(family, Path(temporary) / family)
        bytes_on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder} made in {time.perf_counter() - start:.0f} s: {bytes_on_disk / 1e9:.2f} GB", file=sys.stderr)
        environment = os.environ | {"TENTH_CACHE_DIR": str(Path(temporary) / "store")}
        command = [sys.executable, *sys.argv, f"--draw={folder}"]
        said = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
        millions = {
            name: round(sum(map(torch.Tensor.numel, network.parameters())) / 1e6)
            for name, network in (flow_networks(pixels) if family == FLOW else networks(family, pixels)).items()
        }
    result = {"name": "full_size", "family": family, **said, "millions": millions}
    print(json.dumps(result | {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "torch": torch.__version__}))


if option("draw", ""):
    draw(Path(option("draw", "")))
elif option("write", ""):
    write(next((word for word in sys.argv[1:] if word in DISK), "sd15"), Path(option("write", "")))
else:
    main()
