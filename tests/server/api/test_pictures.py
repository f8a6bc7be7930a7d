"""The gallery over HTTP: pages, one picture, its files, a ZIP."""

from __future__ import annotations

import io
import zipfile

import pytest
from PIL import Image

from served_api import Served
from tenth.server.api import pictures
from tenth.server.api.errors import RequestError
from tenth.server.api.images import made_picture
from toy_executors import color_of


def test_a_page_goes_on_where_the_last_one_ended(anna: Served) -> None:
    job = anna.drawn(num_images=5, seed=3)
    first = anna.client.get("/v1/pictures", params={"limit": 2}).json()
    second = anna.client.get("/v1/pictures", params={"limit": 3, "before": first["next"]}).json()
    assert [each["id"] for each in first["data"] + second["data"]] == job["pictures"][::-1]
    third = anna.client.get("/v1/pictures", params={"before": second["next"]}).json()
    assert third == {"data": [], "next": None}
    assert len(anna.client.get("/v1/pictures", params={"person": "anna"}).json()["data"]) == 5
    assert anna.client.get("/v1/pictures", params={"person": "bert"}).json()["data"] == []


def test_a_picture_has_settings_figures_and_pixels(anna: Served) -> None:
    (picture_id,) = anna.drawn(num_images=1, seed=7)["pictures"]
    picture = anna.client.get(f"/v1/pictures/{picture_id}").json()
    assert (picture["seed"], picture["prompt"], picture["identity"]) == (7, "a photo", 0.5)
    assert (picture["width"], picture["height"], picture["kept"]) == (16, 16, False)
    assert picture["settings"]["seed"] == 7
    answer = anna.client.get(f"/v1/pictures/{picture_id}/image.png")
    assert Image.open(io.BytesIO(answer.content)).getpixel((0, 0)) == color_of(7)
    again = anna.client.get(f"/v1/pictures/{picture_id}/image.png", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_picture_is_kept_and_removed(anna: Served) -> None:
    job = anna.drawn(num_images=1)
    (picture_id,) = job["pictures"]
    address = f"/v1/pictures/{picture_id}"
    assert anna.client.patch(address, json={"kept": True}).json()["kept"] is True
    assert anna.client.patch(address, json={"kept": False}).json()["kept"] is False
    assert anna.client.delete(address).status_code == 204
    assert anna.client.get(f"{address}/image.png").status_code == 404
    assert anna.job(job["id"])["pictures"] == []


def test_a_zip_holds_the_pictures_by_their_ids(anna: Served) -> None:
    ids = anna.drawn(num_images=3)["pictures"]
    answer = anna.client.post("/v1/pictures/zip", json={"ids": [*ids, ids[0]]})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{each}.png" for each in ids]
        assert archive.read(f"{ids[1]}.png") == anna.client.get(f"/v1/pictures/{ids[1]}/image.png").content
    assert anna.client.post("/v1/pictures/zip", json={"ids": ids}).content == answer.content  # no time stands in it


@pytest.mark.parametrize("ids", [["../../etc/passwd"], ["a/b"], ["0" * 32], [], ["a" * 65], ["..\\a"]])
def test_no_name_of_a_client_gets_into_a_zip(ids: list[str], anna: Served) -> None:
    anna.drawn(num_images=1)
    answer = anna.client.post("/v1/pictures/zip", json={"ids": ids})
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/json"


def test_a_picture_that_goes_while_a_zip_is_sent_is_left_out(anna: Served) -> None:
    ids = anna.drawn(num_images=2)["pictures"]
    picture = anna.services.pictures.get(ids[0], "")
    assert picture is not None
    anna.services.blobs.path(picture.sha256).unlink()
    answer = anna.client.post("/v1/pictures/zip", json={"ids": ids})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == [f"{ids[1]}.png"]


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\nand no more"])
def test_a_picture_whose_file_is_damaged_is_not_sent(
    content: bytes | None, anna: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    (picture_id,) = anna.drawn(num_images=1)["pictures"]
    picture = anna.services.pictures.get(picture_id, "")
    assert picture is not None
    path = anna.services.blobs.path(picture.sha256)
    path.unlink() if content is None else path.write_bytes(content)
    monkeypatch.setattr(pictures, "THUMBNAIL_PIXELS", 8)  # so that a thumbnail is to be made
    for file in ("image.png", "thumbnail.png"):
        assert anna.client.get(f"/v1/pictures/{picture_id}/{file}").status_code == 404
    with pytest.raises(RequestError) as refused:
        made_picture(anna.services, "", picture_id)
    assert refused.value.status == 409
    assert anna.client.delete(f"/v1/pictures/{picture_id}").status_code == 204
