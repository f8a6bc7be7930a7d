"""Every picture that leaves tenth is marked, whatever way it takes, and marks change no pixel.

    python tests/marks_over_paths.py DIR COUNT

Makes about COUNT pictures with the pocket model in one step: by `tenth generate`, as a grid, as candidates, by the library, and
by a server, whose pictures leave as files, thumbnails, a ZIP and OpenAI's answers; then those of `tenth generate` again without
marks. Verifies all, and prints how many there were of each as JSON. The suite does it with a few.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient

from served_api import TABLES, Served
from tenth.cli.main import main
from tenth.data.photo_folder import inspect_photos, to_person
from tenth.experiments.generation.request import ImageRequest
from tenth.experiments.generation.run import generate_images
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.sampling.config import SamplingConfig
from tenth.server import drawing
from tenth.server.app import create_app
from tenth.server.catalog import Catalog
from tenth.server.queue.worker import Worker
from tenth.server.settings import ServerSettings
from toy_image_jobs import working
from toy_marks import assert_marked, pixels_of

PROMPT = "a photo of a person"


def mark_all_paths(folder: Path, count: int) -> Counter[str]:
    """How many pictures took each path. Raises AssertionError for one that is not marked, or has other pixels for it."""
    share = max(2, count // 8)
    photos = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))[:2]
    command = ["generate", *map(str, photos), "--prompt", PROMPT, "--steps", "1"]
    ways = {
        "images": ["-n", str(share)],
        "grid": ["--grid", f"seed={','.join(map(str, range(share)))}"],
        "candidates": ["-n", "2", "--candidates", str(share), "--keep-all"],
    }
    for name, words in ways.items():
        assert main([*command, *words, "-o", str(folder / name)]) == 0
    request = ImageRequest((PROMPT,), num_images=share, seed=7, sampling=SamplingConfig(steps=1))
    generate_images(request, to_person(inspect_photos(photos), "somebody"), folder / "library")
    serve(folder, share)
    counts = Counter[str]()
    for path in sorted(path for path in folder.rglob("*.png") if "data" not in path.relative_to(folder).parts):
        assert_marked(path)
        counts[path.relative_to(folder).parts[0]] += 1

    # The same without marks has the same pixels.
    os.environ["TENTH_MARKS"] = "off"
    try:
        assert main([*command, *ways["images"], "-o", str(folder / "unmarked")]) == 0
    finally:
        del os.environ["TENTH_MARKS"]
    for path in sorted((folder / "unmarked").glob("0*.png")):
        marked = (folder / "images" / path.name).read_bytes()
        assert len(marked) > path.stat().st_size
        assert np.array_equal(pixels_of(marked), pixels_of(path.read_bytes()))
        counts["unmarked"] += 1
    return counts


def serve(folder: Path, count: int) -> None:
    """Pictures of a server, as each of its ways gives them."""
    app = create_app(ServerSettings(data=folder / "data"))
    services = app.state.services = replace(app.state.services, catalog=Catalog(TABLES))
    contents: dict[str, bytes] = {}
    with TestClient(app, base_url="http://127.0.0.1") as client:
        served = Served(app, services, client)
        served.save("anna")
        ids = served.submit(PROMPT, num_images=count, sampling={"steps": 1})["id"]
        worker = Worker(services.settings.data, drawing.execute)
        while (job := worker.leases.claim()) is not None:
            worker.work(job)
        pictures = served.job(ids)["pictures"]
        assert len(pictures) == count
        for kind in ("image", "thumbnail"):
            contents |= {f"{kind}/{each}.png": client.get(f"/v1/pictures/{each}/{kind}.png").content for each in pictures}
        archive = client.post("/v1/pictures/zip", json={"ids": pictures}).content
        with zipfile.ZipFile(BytesIO(archive)) as opened:
            contents |= {f"zip/{name}": opened.read(name) for name in opened.namelist()}
        with working(services.settings.data):  # flat colors: the way out is what matters here
            body = {"model": "tenth:anna", "prompt": PROMPT, "seed": 3, "n": 2}
            answer = client.post("/v1/images/generations", json=body).json()["data"]
        contents |= {f"openai/{index}.png": base64.b64decode(each["b64_json"]) for index, each in enumerate(answer)}
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    here = Path(sys.argv[1])
    os.environ["TENTH_DATA_DIR"] = str(here / "data")
    print(json.dumps(mark_all_paths(here, int(sys.argv[2]))))
