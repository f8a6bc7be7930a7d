"""Two people in one batch, who do not mix, each kept in a file. Usage: python examples/two_people.py ONE OTHER OUT."""

import sys
from pathlib import Path

import tenth

*folders, out = (Path(argument) for argument in sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)

model = tenth.load_model()
files = [out / f"{folder.name}.safetensors" for folder in folders]
for folder, file in zip(folders, files, strict=True):
    identity = tenth.method("ip-adapter-avg")(tenth.read_person(folder), model).identity
    tenth.save_identity(identity, file)

identities = [tenth.load_identity(file) for file in files]
requests = [tenth.Request(identity, "a photo of a smiling person", seed=0) for identity in identities]
for number, sample in enumerate(tenth.generate(model, requests, tenth.SamplingConfig(steps=10))):
    tenth.save_sample(sample, out / f"{number}.png")
    print(out / f"{number}.png")
