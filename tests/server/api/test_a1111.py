"""A1111's API: images of a saved person, the lists, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from served_api import Served
from tenth.sampling.schedulers import SCHEDULERS
from tenth.server.api.a1111 import Txt2ImgForm
from toy_executors import color_of
from toy_image_jobs import working

PERSON = {"override_settings": {"sd_model_checkpoint": "tenth:anna"}}
# What a client sends that knows nothing of us.
DEFAULTS = {
    "restore_faces": False,
    "tiling": False,
    "subseed": -1,
    "s_churn": 0,
    "eta": None,
    "denoising_strength": 0,
    "save_images": False,
    "send_images": True,
    "do_not_save_grid": True,
    "hr_upscaler": "",
    "refiner_checkpoint": "",
}


def test_images_are_made_as_a_client_asks(anna: Served) -> None:
    body = {"prompt": "a photo", "steps": 3, "seed": 7, "batch_size": 2, "n_iter": 1, "cfg_scale": 3.5, **DEFAULTS, **PERSON}
    with working(anna.services.settings.data):
        answer = anna.client.post("/sdapi/v1/txt2img", json=body | {"sampler_name": "DPM++ 2M", "scheduler": "Karras"})
    assert answer.status_code == 200, answer.text
    images = [Image.open(io.BytesIO(base64.b64decode(each))) for each in answer.json()["images"]]
    assert [image.getpixel((0, 0)) for image in images] == [color_of(7), color_of(8)]
    assert json.loads(answer.json()["info"])["all_seeds"] == [7, 8]
    (job,) = anna.client.get("/v1/jobs").json()["data"]
    sampling = job["request"]["sampling"]
    assert (sampling["steps"], sampling["guidance_scale"], sampling["scheduler"]) == (3, 3.5, "dpm++-2m-karras")


@pytest.mark.parametrize(
    ("sampler", "schedule", "ours"),
    [
        ("DPM++ 2M", "Karras", "dpm++-2m-karras"),
        ("DPM++ 2M Karras", "", "dpm++-2m-karras"),
        ("DPM++ 2M Karras", "Karras", "dpm++-2m-karras"),
        ("dpm++-2m", "karras", "dpm++-2m-karras"),
        ("Euler a", "Automatic", "euler-a"),
        ("euler-a", "", "euler-a"),
        ("", "Automatic", ""),
        ("Automatic", "", ""),
    ],
)
def test_a_sampler_and_its_schedule_are_one_of_ours(sampler: str, schedule: str, ours: str) -> None:
    form = Txt2ImgForm(prompt="a photo", sampler_name=sampler, scheduler=schedule)
    assert form.to_request().sampling.scheduler == ours


def test_a_seed_below_zero_is_another_one_each_time(anna: Served) -> None:
    with working(anna.services.settings.data):
        seeds = [
            json.loads(anna.client.post("/sdapi/v1/txt2img", json={"prompt": "a photo", **PERSON}).json()["info"])["seed"]
            for _ in range(2)
        ]
    assert len(set(seeds)) == 2


REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "no person": ({"override_settings": {}}, 404),
    "another model": ({"override_settings": {"sd_model_checkpoint": "v1-5-pruned"}}, 404),
    "unknown person": ({"override_settings": {"sd_model_checkpoint": "tenth:nobody"}}, 404),
    "unknown sampler": (PERSON | {"sampler_name": "Heun++"}, 400),
    "a script": (PERSON | {"script_name": "X/Y/Z plot"}, 400),
    "an extension": (PERSON | {"alwayson_scripts": {"controlnet": {"args": []}}}, 400),
    "half a size": (PERSON | {"width": 512}, 400),
    "a schedule alone": (PERSON | {"scheduler": "Karras"}, 400),
    "a schedule that the sampler has not": (PERSON | {"sampler_name": "Euler", "scheduler": "Karras"}, 400),
    "hires": (PERSON | {"enable_hr": True}, 400),
    "too many": (PERSON | {"batch_size": 101}, 400),
    "too many steps": (PERSON | {"steps": 10_000}, 400),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_is_refused(name: str, anna: Served) -> None:
    body, status = REFUSED[name]
    assert anna.client.post("/sdapi/v1/txt2img", json={"prompt": "a photo", **body}).status_code == status
    assert anna.client.get("/v1/jobs").json()["data"] == []


def test_progress_is_that_of_the_running_job(anna: Served) -> None:
    assert anna.client.get("/sdapi/v1/progress").json()["progress"] == 0
    job = anna.submit("a photo")
    from tenth.server.queue.leases import Leases

    leases = Leases(anna.services.database, "worker")
    claimed = leases.claim()
    assert claimed is not None
    leases.progress(claimed, 1, 4)
    progress = anna.client.get("/sdapi/v1/progress").json()
    assert (progress["progress"], progress["state"]["job"], progress["current_image"]) == (0.25, job["id"], None)


def test_people_are_models_and_samplers_have_their_names(anna: Served) -> None:
    (model,) = anna.client.get("/sdapi/v1/sd-models").json()
    assert (model["title"], model["model_name"]) == ("tenth:anna", "tenth:anna")
    samplers = anna.client.get("/sdapi/v1/samplers").json()
    assert {each["name"] for each in samplers} == {sampler.a1111_name for sampler in SCHEDULERS.values()}
