"""The part of A1111's API that its clients need for images of a saved person: a thin layer over jobs.

The model, `override_settings.sd_model_checkpoint`, is `tenth:PERSON`, as /sdapi/v1/sd-models lists it; `tenth_method` and
`tenth_model` beside it name the method and the diffusion model. Source: A1111, modules/api/models.py.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from tenth.core.config import from_table
from tenth.experiments.generation.request import ImageRequest
from tenth.sampling.schedulers import SCHEDULERS
from tenth.server.api.context import Owner
from tenth.server.api.errors import RequestError
from tenth.server.api.events import ended
from tenth.server.api.images import MAX_SEED, made_picture
from tenth.server.api.info import PERSON_PREFIX
from tenth.server.api.jobs import Order
from tenth.server.api.schemas import EXAMPLE_PROMPT
from tenth.server.services import TheServices

MAX_IMAGES = 100  # batch_size times n_iter
DEFAULT_SAMPLERS, DEFAULT_SCHEDULES = ("", "Automatic"), ("", "automatic")
router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])


class OverrideSettings(BaseModel):
    """Of A1111's settings, those that name a model; others are passed over."""

    sd_model_checkpoint: str = ""
    tenth_method: str = ""
    tenth_model: str = ""


class Txt2ImgForm(BaseModel):
    """A1111's parameters as far as they mean something here; clients send many more, and those are passed over."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "prompt": EXAMPLE_PROMPT,
                "negative_prompt": "blurry",
                "steps": 4,
                "cfg_scale": 2,
                "seed": 7,
                "override_settings": {"sd_model_checkpoint": "tenth:anna"},
            }
        },
    )

    prompt: str = ""
    negative_prompt: str = ""
    seed: int = -1
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = Field(default=None, ge=1, le=10_000)
    height: int | None = Field(default=None, ge=1, le=10_000)
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int = Field(default=1, ge=1, le=MAX_IMAGES)
    n_iter: int = Field(default=1, ge=1, le=MAX_IMAGES)
    enable_hr: bool = False
    styles: list[str] | None = None
    script_name: str | None = None
    alwayson_scripts: dict[str, Any] = {}
    override_settings: OverrideSettings = OverrideSettings()

    def to_request(self) -> ImageRequest:
        """The request that these parameters mean. Raises InputError."""
        for name in ("enable_hr", "styles", "script_name", "alwayson_scripts"):
            if getattr(self, name):
                needed = "images as the model makes them are made here"
                raise RequestError(400, f"{name} is set", needed, "Leave it out, or use /v1/jobs", param=name)
        if (self.width is None) != (self.height is None):
            missing = "width" if self.width is None else "height"
            raise RequestError(400, f"a size without {missing}", "both are needed, or neither", f"Add {missing}", param=missing)
        sampler = self.sampler_name or self.sampler_index or ""
        settings: dict[str, Any] = {
            "steps": self.steps,
            "guidance_scale": self.cfg_scale,
            "negative_prompt": self.negative_prompt,
            "scheduler": _scheduler(sampler, self.scheduler or ""),
        }
        settings = {name: value for name, value in settings.items() if value not in (None, "")}
        table = {
            "prompts": [self.prompt],
            "num_images": self.batch_size * self.n_iter,
            "sampling": settings,
            "seed": secrets.randbelow(MAX_SEED) if self.seed < 0 else self.seed,
            "method": self.override_settings.tenth_method,
            "size": f"{self.width}x{self.height}" if self.width and self.height else "",
        }
        if self.override_settings.tenth_model:
            table["model"] = self.override_settings.tenth_model
        return from_table(ImageRequest, table, "the request")


class Txt2ImgResponse(BaseModel):
    """PNGs in base64, what was asked, and JSON that says how they were made."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class ProgressView(BaseModel):
    """How far the job is that is being worked on, from 0 to 1."""

    progress: float
    eta_relative: float = 0.0
    state: dict[str, Any]
    current_image: str | None = None
    textinfo: str | None = None


class CheckpointView(BaseModel):
    """A model in a client's list: here a saved person."""

    title: str
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str
    config: str | None = None


class SamplerView(BaseModel):
    """A sampler in a client's list."""

    name: str
    aliases: list[str]
    options: dict[str, str] = {}


def _scheduler(name: str, schedule: str) -> str:
    """Our name of A1111's sampler, whose schedule newer versions name apart. Raises RequestError for one that is not here."""
    wanted = schedule.casefold()
    if name in DEFAULT_SAMPLERS and wanted in DEFAULT_SCHEDULES:
        return ""
    full = (SCHEDULERS[name].a1111_name if name in SCHEDULERS else name).casefold()
    if wanted not in DEFAULT_SCHEDULES and not full.endswith(f" {wanted}"):
        full = f"{full} {wanted}"
    names = {sampler.a1111_name.casefold(): key for key, sampler in SCHEDULERS.items()}
    if full not in names:
        known = ", ".join(sampler.a1111_name for sampler in SCHEDULERS.values())
        found = f"the sampler {name!r:.100}" + (f" with the schedule {schedule!r:.100}" if schedule else "")
        raise RequestError(400, found, f"choose one of: {known}", "Correct it", param="sampler_name")
    return names[full]


@router.post("/txt2img", response_model=Txt2ImgResponse)
async def txt2img(form: Txt2ImgForm, request: Request, owner: Owner, services: TheServices) -> Response | Txt2ImgResponse:
    """Images of a saved person. The request waits for its job, which is cancelled if the client goes away."""
    model = form.override_settings.sd_model_checkpoint
    if not model.startswith(PERSON_PREFIX):
        found, needed = f"the model {model!r:.100}", f"{PERSON_PREFIX}PERSON in override_settings.sd_model_checkpoint is needed"
        raise RequestError(404, found, needed, "/sdapi/v1/sd-models lists them", param="override_settings")
    wanted = form.to_request()
    job = await ended(services, owner, Order(wanted, model.removeprefix(PERSON_PREFIX)), request)
    if job is None:
        return Response(status_code=499)  # which nobody reads
    images, seeds = [], []
    for picture_id in job.pictures:
        picture, content = await run_in_threadpool(made_picture, services, owner, picture_id)
        images.append(content)
        seeds.append(picture.seed)
    info = {
        "prompt": form.prompt,
        "negative_prompt": form.negative_prompt,
        "seed": seeds[0] if seeds else -1,
        "all_seeds": seeds,
    }
    return Txt2ImgResponse(images=images, parameters=form.model_dump(), info=json.dumps(info))


@router.get("/progress")
def progress(owner: Owner, services: TheServices, skip_current_image: bool = False) -> ProgressView:
    """The oldest of one's jobs that is being worked on."""
    running = services.queue.list(owner, 500, None, "running")
    if not running:
        return ProgressView(progress=0.0, state={"job": "", "job_count": 0, "sampling_step": 0, "sampling_steps": 0})
    job = running[-1]
    state = {"job": job.id, "job_count": len(running), "sampling_step": job.done, "sampling_steps": job.total}
    preview = None if skip_current_image else services.queue.preview(job.id, owner)
    current = None if preview is None else base64.b64encode(preview).decode()
    return ProgressView(progress=job.done / job.total if job.total else 0.0, state=state, current_image=current)


@router.get("/sd-models")
def sd_models(owner: Owner, services: TheServices) -> list[CheckpointView]:
    """One's saved people, as models to choose from."""
    names = [f"{PERSON_PREFIX}{person.name}" for person in services.people(owner).list()]
    return [CheckpointView(title=name, model_name=name, filename=name) for name in names]


@router.get("/samplers")
def samplers() -> list[SamplerView]:
    """The samplers by A1111's names."""
    return [SamplerView(name=sampler.a1111_name, aliases=[name]) for name, sampler in SCHEDULERS.items()]
