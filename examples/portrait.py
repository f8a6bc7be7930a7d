"""A folder of photos -> four portraits, by the library. Usage: python examples/portrait.py PHOTOS OUT."""

import sys
from pathlib import Path

import tenth

photos, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)

model = tenth.load_model("pocket")
person = tenth.read_person(photos)
identity = tenth.method("ip-adapter-consensus")(person, model).identity

requests = [tenth.Request(identity, "a portrait photo of a person", seed) for seed in range(4)]
for number, sample in enumerate(tenth.generate(model, requests, tenth.SamplingConfig())):
    tenth.save_sample(sample, out / f"{number:04d}.png")
    print(out / f"{number:04d}.png", f"{sample.seconds:.2f} s")
