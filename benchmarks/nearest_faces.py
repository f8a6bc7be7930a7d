"""For each picture in a folder, the training photos nearest to it: has the model copied anybody?

Usage: python benchmarks/nearest_faces.py PEOPLE.JSONL PHOTOS FOLDER SHEET.PNG. SHEET has a row a picture: itself, the three
nearest by dlib's descriptor, the three nearest by pixels at 32 x 32. Prints one JSON object as its last line: the smallest of
both distances over all pictures.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tenth.data.faces import CROP_PIXELS, find_faces
from tenth.data.photo import open_photo
from tenth.encode.face import describe
from tenth.encode.store import Store, default_store
from tenth.pocket.faces import People, load_faces
from tenth.pocket.train_diffusion import descriptors_of
from tenth.types import Photo

NEAREST, SMALL = 3, 32


def small(crop: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(crop).resize((SMALL, SMALL)), dtype=np.float32).ravel()


people, folder = People(Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[3])
store = Store(default_store())
faces = load_faces(people, "train", store)
known = descriptors_of(faces, store)  # (N, 128)
crops = faces.crops.permute(0, 2, 3, 1).numpy()  # (N, 128, 128, 3)
thumbnails = np.stack([small(crop) for crop in crops])
paths = sorted(folder.glob("*.png"))
sheet = Image.new("RGB", (CROP_PIXELS * (1 + 2 * NEAREST), CROP_PIXELS * len(paths)))
smallest = {"descriptor": np.inf, "pixels": np.inf}
for row, path in enumerate(paths):
    pixels = open_photo(path).pixels
    described = describe(Photo(pixels, "", face=find_faces(pixels)[0]))
    distances = {
        "descriptor": np.linalg.norm(known - described, axis=1),
        "pixels": np.sqrt(np.square(thumbnails - small(pixels)).mean(1)),
    }
    nearest = [index for values in distances.values() for index in values.argsort()[:NEAREST]]
    smallest = {name: min(smallest[name], float(values.min())) for name, values in distances.items()}
    for column, picture in enumerate([pixels, *crops[nearest]]):
        sheet.paste(Image.fromarray(picture), (column * CROP_PIXELS, row * CROP_PIXELS))
sheet.save(sys.argv[4])
print(json.dumps({"name": "nearest_faces", "pictures": len(paths), "photos": len(known), "smallest": smallest}))
