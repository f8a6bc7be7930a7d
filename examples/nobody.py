"""Nine photos of a person who does not exist; this package ships those of seed 5. Usage: python examples/nobody.py SEED OUT."""

import hashlib
import sys
from pathlib import Path

import numpy as np

import tenth
from tenth.core.types import Person, Photo
from tenth.data.faces.descriptors import face_descriptor
from tenth.data.faces.detection import find_faces

seed, out = int(sys.argv[1]), Path(sys.argv[2])
prompt = "a photo of a young woman with brown hair"
looks = ("", "smiling", "looking at the camera", "smiling, outdoors", "mouth open", "outdoors", "indoors", "serious")
out.mkdir(parents=True, exist_ok=True)


def seen(pixels: np.ndarray) -> Photo:
    return Photo(pixels, hashlib.sha256(pixels.tobytes()).hexdigest(), face=find_faces(pixels)[0])


# A face from nothing, drawn without an identity, is the one photo of somebody, of whom more are drawn.
model = tenth.load_model()
photo = seen(next(tenth.generate(model, [tenth.Request(None, prompt, seed)], tenth.SamplingConfig())).pixels)
identity = tenth.method("ip-adapter")(Person("nobody", (photo,)), model).identity
requests = [tenth.Request(identity, f"{prompt}, {looks[n % 8]}".rstrip(", "), seed + 1 + n) for n in range(24)]
samples = [sample for sample in tenth.generate(model, requests, tenth.SamplingConfig()) if find_faces(sample.pixels)]

# The nine that look most like the others stay.
rows = np.stack([face_descriptor(seen(sample.pixels)) for sample in samples])
distances = np.median(np.linalg.norm(rows[:, None] - rows, axis=2), axis=1)
for number, index in enumerate(sorted(distances.argsort()[:9])):
    tenth.save_sample(samples[index], out / f"{number + 1:02d}.png")
    print(out / f"{number + 1:02d}.png")
