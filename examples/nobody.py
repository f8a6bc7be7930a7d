"""Nine photos of a person who does not exist, as this package ships. Usage: python examples/nobody.py SEED OUT [PROMPT]."""

import hashlib
import sys
from pathlib import Path

import tenth
from tenth.data.faces import find_faces
from tenth.types import Person, Photo

seed, out = int(sys.argv[1]), Path(sys.argv[2])
prompt = sys.argv[3] if len(sys.argv) > 3 else "a photo of a young woman with brown hair"
out.mkdir(parents=True, exist_ok=True)

# A face from nothing, drawn without an identity ...
model = tenth.load_model()
drawn = next(tenth.generate(model, [tenth.Request(None, prompt, seed)], tenth.Sampling())).pixels
photo = Photo(drawn, hashlib.sha256(drawn.tobytes()).hexdigest(), face=find_faces(drawn)[0])

# ... is the one photo of somebody, of whom nine more are drawn.
identity = tenth.method("ip-adapter")(Person("nobody", (photo,)), model)
looks = [
    "",
    ", smiling",
    ", serious",
    ", smiling, outdoors",
    ", looking at the camera",
    ", mouth open",
    ", outdoors",
    ", indoors",
    "",
]
requests = [tenth.Request(identity, prompt + look, seed + 1 + number) for number, look in enumerate(looks)]
for number, sample in enumerate(tenth.generate(model, requests, tenth.Sampling())):
    tenth.save_sample(sample, out / f"{number + 1:02d}.png")
    print(out / f"{number + 1:02d}.png")
