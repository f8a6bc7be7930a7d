"""Training of an adapter on 100,000 people in files against 1,000 people in memory, at the pocket model's sizes.

    python benchmarks/training_set.py [FOLDER] [--people 100000] [--rounds 6] [--tiny]

The people are random numbers: ten photos each, latents (2, 8, 16, 16), embeddings of 128 numbers, two captions. FOLDER, which
is removed at the end, needs 175 MB for each 1,000 people. A step is that of `ip-adapter-set`: references, captions and latents
are gathered, and the pocket model's loss is computed forward and backward. Rounds alternate between the two sets, and go on
where the last one stopped. Prints one JSON object as its last line. ratio: images a second from files over those from
memory, the median of the rounds; by_time_on_cores: the same by this process's time on the cores. megabytes: of this process's
own memory (RssAnon), what a set takes when it is opened, and for files also what their rounds added after the first.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from pathlib import Path
from tempfile import mkdtemp

import torch

from tenth.core.errors import DataError
from tenth.core.files.reading import sha256_of
from tenth.core.rng import StepRNG
from tenth.models.aggregators.set_aggregator import SetAggregator
from tenth.models.memory.planner import LoadOptions
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.models.registry import load_model
from tenth.training.adapter import shards
from tenth.training.adapter.dataset import AdapterDataset, EncodedPhotos
from tenth.training.adapter.reference_sampling import ReferenceSampling
from tenth.training.adapter.shards import ShardReport
from tenth.training.adapter.trainer import AdapterRecipe, AdapterTrainer
from tenth.training.frozen_diffusion import frozen_diffusion
from tenth.training.schedule import TrainingConfig, shuffled_indices

PHOTOS, BATCH, SHARD_PEOPLE = 10, 32, 102


def random_people(count: int, prompts: PromptEmbeddings, seed: int) -> EncodedPhotos:
    rng, photos = torch.Generator().manual_seed(seed), count * PHOTOS
    return EncodedPhotos(
        latent_moments=torch.randn(photos, 2, 8, 16, 16, generator=rng),
        embeddings=torch.randn(photos, 128, generator=rng),
        degraded_embeddings=torch.randn(photos, 128, generator=rng),
        caption_indices=torch.tensor([1, 2, 1, 2]).repeat(photos, 1),
        prompt_embeddings=prompts,
        num_photos=torch.full((count,), PHOTOS),
        num_captions=torch.full((count,), 2),
    )


def write_set(folder: Path, people: int, prompts: PromptEmbeddings, networks: dict[str, str]) -> None:
    """As `tenth data encode` writes it; the shards' numbers are the same but for one of each, which tells them apart."""
    photos, reports = random_people(SHARD_PEOPLE, prompts, 0), []
    for number, first in enumerate(range(0, people, SHARD_PEOPLE)):
        count = min(SHARD_PEOPLE, people - first)
        part = photos if count == SHARD_PEOPLE else random_people(count, prompts, 0)
        part.embeddings[0, 0] = number
        path = shards.shard_path(folder, number)
        shards.write_shard(path, part)
        digest = sha256_of(path) if number == 0 else ""
        reports.append(ShardReport(count, count * PHOTOS, path.stat().st_size, digest, 0, 0, ""))
    shards.write_index(folder, {"networks": networks}, reports)


def own_memory() -> int:
    """Bytes of memory of this process that no file stands for."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def images_a_second(trainer: AdapterTrainer, first_step: int, steps: int) -> tuple[float, float]:
    """By the clock, and by this process's time on the cores, which other work there does not change."""
    start, start_of_work = time.perf_counter(), time.process_time()
    for step in range(first_step, first_step + steps):
        people = shuffled_indices(trainer.dataset.block_sizes, 0, step * BATCH, BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            loss = trainer.loss(people, StepRNG(0, step, BATCH))
        loss.backward()
        for module in (trainer.frozen.network, trainer.aggregator):
            module.zero_grad()
    seconds, work = time.perf_counter() - start, time.process_time() - start_of_work
    return steps * BATCH / seconds, steps * BATCH / work


def measure(folder: Path, people: int, rounds: int, steps: int) -> None:
    model = load_model("pocket", options=LoadOptions(device="cpu", full_precision=True))
    references = ReferenceSampling(min_photos=1, p_impostor=0.3, p_degraded=0.2)
    recipe = AdapterRecipe("set", encoded=folder, references=references, schedule=TrainingConfig(BATCH))
    aggregator = SetAggregator(128)
    memory: dict[str, list[float]] = {}
    with frozen_diffusion(model.pipeline, model.adapter_parts) as frozen, frozen.cast_frozen_weights(torch.bfloat16):
        prompts = frozen.encode_prompts(["", "a photo of a person", "a portrait of a person"])
        start = time.perf_counter()
        write_set(folder, people, prompts, shards.encoder_settings(model.encoder, frozen))
        seconds = {"write": time.perf_counter() - start}
        before, start = own_memory(), time.perf_counter()
        files = shards.open_training_set(folder, references.required_photos, model.encoder, frozen)
        seconds["open"] = time.perf_counter() - start
        memory["files"] = [(own_memory() - before) / 1e6]
        before = own_memory()
        in_memory = AdapterDataset.in_memory(random_people(min(1000, people), prompts, 0))
        memory["memory"] = [(own_memory() - before) / 1e6]

        # One round of each warms up; then they alternate.
        trainers = {
            name: AdapterTrainer(recipe, model, frozen, aggregator, dataset)
            for name, dataset in (("files", files), ("memory", in_memory))
        }
        speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in trainers}
        first_round = 0.0
        for number in range(rounds + 1):
            for name in sorted(trainers, reverse=number % 2 == 1):
                before = own_memory()
                speeds[name].append(images_a_second(trainers[name], number * steps, steps))
                if name == "files" and number:
                    first_round += (own_memory() - before) / 1e6
        memory["files"].append(first_round)
    ratios = [
        [one[axis] / other[axis] for one, other in zip(speeds["files"][1:], speeds["memory"][1:], strict=True)]
        for axis in (0, 1)
    ]
    result = {"name": "training_set", "ratio": round(statistics.median(ratios[0]), 3)}
    result |= {"by_time_on_cores": round(statistics.median(ratios[1]), 3)}
    result |= {"rounds": [[round(each, 3) for each in sorted(values)] for values in ratios]}
    result |= {
        "images_a_second": {name: round(statistics.median(wall for wall, _ in all_[1:]), 2) for name, all_ in speeds.items()}
    }
    result |= {"people": people, "photos": people * PHOTOS, "shards": len(files.part_ends), "batch": BATCH, "steps": steps}
    result |= {"gigabytes": round(sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e9, 2)}
    result |= {"megabytes": {name: [round(each, 1) for each in values] for name, values in memory.items()}}
    result |= {"seconds": {name: round(value, 1) for name, value in seconds.items()}, "cores": os.cpu_count()}
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="for a test of this file")
    args = parser.parse_args()
    folder = args.folder or Path(mkdtemp(prefix="training-set-"))
    if any(folder.iterdir() if folder.exists() else ()):
        raise DataError(f"{folder} is not empty", "an empty or new folder is needed", "Choose another")
    try:
        measure(folder, *((2_000, 1, 1) if args.tiny else (args.people, args.rounds, args.steps)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
