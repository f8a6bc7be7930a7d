"""Images of one person from nine photos at Stable Diffusion 1.5's size, random weights: tenth against diffusers, same files.

diffusers is called as its documentation shows: `load_ip_adapter`, then one call an image with the nine photos, prompt and seed.
The same float32 weights, sampler, steps and photo preparation, so the images are equal; loading is not timed on either side.
Options: --images=N (20), --steps=N (2), --pixels=N (512), --tiny (for a test of this file). It makes a folder of 4 GB in TMPDIR
and removes it. With a GPU both run there, in float32. Prints one JSON object as its last line.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from large_models import SIDE, write_large
from PIL import Image
from transformers import CLIPImageProcessorPil

import tenth
from tenth.core.types import Person
from tenth.data.photo_folder import read_person
from tenth.methods.registry import method
from tenth.models.memory.planner import LoadOptions
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import load_model

PROMPT = "a portrait photo of a person"
SCALE, GUIDANCE = 0.6, 7.5  # diffusers' own example and default
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def option(name: str, default: int) -> int:
    return next((int(word.partition("=")[2]) for word in sys.argv if word.startswith(f"--{name}=")), default)


def ours(folder: Path, person: Person, count: int, steps: int) -> tuple[list[np.ndarray], float]:
    model = load_model(str(folder), options=LoadOptions(DEVICE, "float32"))
    sampling = tenth.SamplingConfig(steps=steps, guidance_scale=GUIDANCE, guidance_rescale=0.0, ip_adapter_scale=SCALE)
    start = time.perf_counter()
    identity = method("ip-adapter-concat")(person, model).identity
    requests = [tenth.Request(identity, PROMPT, seed) for seed in range(count)]
    images = [sample.pixels for sample in tenth.generate(model, requests, sampling)]
    return images, time.perf_counter() - start


def theirs(folder: Path, person: Person, count: int, steps: int) -> tuple[list[np.ndarray], float]:
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, feature_extractor=CLIPImageProcessorPil(), safety_checker=None
    ).to(DEVICE)
    pipeline.load_ip_adapter(
        str(folder), subfolder="ip-adapter", weight_name="ip-adapter.safetensors", image_encoder_folder="./image_encoder"
    )
    pipeline.set_ip_adapter_scale(SCALE)
    pipeline.set_progress_bar_config(disable=True)
    photos = [Image.fromarray(photo.pixels) for photo in person.photos]
    start, images = time.perf_counter(), []
    for seed in range(count):
        drawn = pipeline(
            PROMPT,
            ip_adapter_image=[photos],
            negative_prompt="",
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        images.append(np.asarray(drawn))
    return images, time.perf_counter() - start


count, steps, pixels = option("images", 20), option("steps", 2), option("pixels", SIDE)
person = read_person(EXAMPLE_PHOTOS_DIR)
with tempfile.TemporaryDirectory() as temporary:
    os.environ["TENTH_CACHE_DIR"] = str(Path(temporary) / "store")
    folder = write_large("sd15", Path(temporary) / "sd15", pixels)
    one, seconds = ours(folder, person, count, steps)
    other, their_seconds = theirs(folder, person, count, steps)
apart = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(one, other, strict=True))
result = {
    "name": "generation",
    "ratio": their_seconds / seconds,
    "seconds": {"ours": round(seconds, 2), "diffusers": round(their_seconds, 2)},
    "largest_difference": apart,  # of 255
    "images": count,
    "steps": steps,
    "pixels": pixels,
    "photos": len(person.photos),
    "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
    "threads": torch.get_num_threads(),
    "cores": os.cpu_count(),
    "torch": torch.__version__,
}
print(json.dumps(result))
