"""Pictures that leave the server are marked, by whatever way."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

from served_api import Served
from toy_image_jobs import working
from toy_marks import assert_marked


def test_every_way_out_has_the_marks(anna: Served, tmp_path: Path) -> None:
    ids = anna.drawn(num_images=2)["pictures"]
    archive = anna.client.post("/v1/pictures/zip", json={"ids": ids}).content
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        contents = {f"zip-{name}": opened.read(name) for name in opened.namelist()}
    for kind in ("image", "thumbnail"):
        contents[f"{kind}.png"] = anna.client.get(f"/v1/pictures/{ids[0]}/{kind}.png").content
    with working(anna.services.settings.data):
        body = {"prompt": "a photo", "seed": 3}
        openai = anna.client.post("/v1/images/generations", json={"model": "tenth:anna", **body}).json()["data"]
        person = {"override_settings": {"sd_model_checkpoint": "tenth:anna"}}
        a1111 = anna.client.post("/sdapi/v1/txt2img", json={**body, **person}).json()["images"]
    contents |= {"openai.png": base64.b64decode(openai[0]["b64_json"]), "a1111.png": base64.b64decode(a1111[0])}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert len(contents) == 6
    assert_marked(*(tmp_path / name for name in contents))
