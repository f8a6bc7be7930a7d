"""OpenAI's images as its own client sees them: the official package against a server and a worker in processes of their own."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import openai
import pytest
from PIL import Image

from served_api import PHOTOS, Served
from toy_executors import color_of
from toy_image_jobs import working
from toy_server import toy_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with toy_server(tmp_path_factory.mktemp("openai") / "data") as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def color(b64_json: str | None) -> Any:
    assert b64_json is not None
    return Image.open(io.BytesIO(base64.b64decode(b64_json))).getpixel((0, 0))


def test_a_saved_person_is_a_model(client: openai.OpenAI) -> None:
    assert "tenth:anna" in [model.id for model in client.models.list()]
    answer = client.images.generate(
        model="tenth:anna", prompt="a photo", n=2, size="256x256", user="somebody", quality="high", extra_body={"seed": 7}
    )
    assert answer.data is not None
    assert [color(image.b64_json) for image in answer.data] == [color_of(7), color_of(8)]
    assert answer.created == pytest.approx(time.time(), abs=600)


def test_photos_of_a_person_go_in_and_pictures_come_out(client: openai.OpenAI, url: str) -> None:
    answer = client.images.edit(
        image=[path.open("rb") for path in PHOTOS[:3]], prompt="a photo", n=1, extra_body={"seed": 3, "method": "ip-adapter"}
    )
    assert answer.data is not None
    assert color(answer.data[0].b64_json) == color_of(3)
    one = client.images.edit(image=PHOTOS[0].open("rb"), prompt="a photo", response_format="url", extra_body={"seed": 4})
    assert one.data is not None
    assert one.data[0].url is not None
    assert one.data[0].url.startswith(f"{url}/v1/pictures/")
    content = httpx.get(one.data[0].url, trust_env=False).content
    assert Image.open(io.BytesIO(content)).getpixel((0, 0)) == color_of(4)


def test_without_a_seed_the_picture_is_another_one_each_time(client: openai.OpenAI) -> None:
    answers = [client.images.generate(model="tenth:anna", prompt="a photo") for _ in range(2)]
    seeds = {image.seed for answer in answers for image in answer.data or ()}  # type: ignore[attr-defined]
    assert len(seeds) == 2


def test_a_stream_has_previews_and_then_the_picture(client: openai.OpenAI) -> None:
    stream = client.images.generate(
        model="tenth:anna", prompt="a slow photo", n=2, stream=True, partial_images=2, extra_body={"seed": 7, "steps": 12}
    )
    events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[-2:] == ["image_generation.completed"] * 2
    assert set(kinds[:-2]) == {"image_generation.partial_image"}
    assert [color(event.b64_json) for event in events[-2:]] == [color_of(7), color_of(8)]
    assert color(events[0].b64_json) == color_of(7)
    assert [(event.seed, len(event.id) > 0) for event in events[-2:]] == [(7, True), (8, True)]  # type: ignore[union-attr]
    with client.images.edit(image=PHOTOS[0].open("rb"), prompt="a photo", stream=True) as edits:
        assert [event.type for event in edits] == ["image_edit.completed"]
    with pytest.raises(openai.APIError, match="no face in 3 photos"):
        list(client.images.generate(model="tenth:anna", prompt="a failing photo", stream=True))


BAD: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str, str | None]] = {
    "too many": ({"n": 11}, openai.BadRequestError, "n is 11", "n"),
    "no size": ({"size": "large"}, openai.BadRequestError, "size", None),
    "unknown parameter": ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "colour", "colour"),
    "another format": ({"output_format": "webp"}, openai.BadRequestError, "output_format", "output_format"),
    "transparent": ({"background": "transparent"}, openai.BadRequestError, "background", "background"),
    "unknown method": ({"extra_body": {"method": "dreambath"}}, openai.BadRequestError, "'dreambath' is not a method", None),
    "unknown model": ({"model": "dall-e-3"}, openai.NotFoundError, "dall-e-3", "model"),
    "unknown person": ({"model": "tenth:nobody"}, openai.NotFoundError, "nobody", None),
    "a job that fails": ({"prompt": "a failing photo"}, openai.BadRequestError, "no face in 3 photos", None),
    "a fault of ours": ({"prompt": "a broken photo"}, openai.InternalServerError, "RuntimeError", None),
}


@pytest.mark.parametrize("name", BAD)
def test_an_error_is_the_clients_own(name: str, client: openai.OpenAI) -> None:
    changes, kind, found, param = BAD[name]
    with pytest.raises(kind, match=found) as caught:
        client.images.generate(**({"model": "tenth:anna", "prompt": "a photo"} | changes))
    assert caught.value.param == param
    assert caught.value.type == ("server_error" if kind is openai.InternalServerError else "invalid_request_error")
    assert {"found", "needed", "action"} <= set(caught.value.body)  # type: ignore[arg-type]


def test_bad_edits_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="saved person has photos"):
        client.images.edit(image=PHOTOS[0].open("rb"), prompt="a photo", model="tenth:anna")
    with pytest.raises(openai.BadRequestError, match="the models 'pocket' and 'pocket'"):
        client.images.edit(image=PHOTOS[0].open("rb"), prompt="a", model="pocket", extra_body={"base_model": "pocket"})
    with pytest.raises(openai.BadRequestError, match="mask is not a parameter"):
        client.images.edit(image=PHOTOS[0].open("rb"), mask=PHOTOS[1].open("rb"), prompt="a photo")
    with pytest.raises(openai.BadRequestError):
        client.images.edit(image=("a.png", b"no photo"), prompt="a photo")


def test_a_client_that_goes_away_cancels_its_job(client: openai.OpenAI, url: str) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).images.generate(
            model="tenth:anna", prompt="a slow photo", extra_body={"seed": 1, "steps": 900}
        )
    deadline = time.monotonic() + 20
    while (job := httpx.get(f"{url}/v1/jobs", trust_env=False).json()["data"][0])["status"] != "cancelled":
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    assert job["request"]["sampling"]["steps"] == 900


def test_a_job_that_was_there_before_goes_on_when_a_client_goes_away(anna: Served) -> None:
    waiters = anna.services.waiters
    assert not waiters.enter("job", is_new=False)
    assert waiters.enter("job", is_new=True)
    assert waiters.enter("job", is_new=False)  # another client wants the same
    assert not waiters.leave("job")
    assert waiters.leave("job")
    assert not waiters.enter("job", is_new=False)


def test_the_answers_in_one_process(anna: Served) -> None:
    body = {"model": "tenth:anna", "prompt": "a photo", "seed": 5, "response_format": "url"}
    with working(anna.services.settings.data):
        answer = anna.client.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["seed"] == 5


@pytest.mark.parametrize("stream", [False, True])
def test_an_address_is_that_of_the_proxy_by_which_the_client_came(stream: bool, anna: Served) -> None:
    body = {"model": "tenth:anna", "prompt": "a photo", "seed": 5, "response_format": "url", "stream": stream}
    headers = {"Host": "localhost", "X-Forwarded-Proto": "https"}
    with working(anna.services.settings.data):
        answer = anna.client.post("/v1/images/generations", json=body, headers=headers)
    assert '"url":"https://localhost/v1/pictures/' in answer.text.replace('": "', '":"')
    assert "iVBORw0KGgo" not in answer.text  # a PNG in base64
