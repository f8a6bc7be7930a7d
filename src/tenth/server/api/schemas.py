"""What the API takes and gives, as types: FastAPI validates by them and writes them into the schema, with an example each."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tenth.core.config import from_table
from tenth.experiments.generation.request import ImageRequest

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="sha256 of a photo's file, as POST /v1/photos gave it")]
Name = Annotated[str, Field(min_length=1, max_length=100)]
JobId = Annotated[str, Field(pattern="^[0-9A-Za-z_-]{1,64}$")]
MAX_PHOTOS = 100  # of a request
MAX_ZIP_PICTURES = 1_000

# Two of the example photos in the package, so that the examples work as they stand.
EXAMPLE_PHOTOS: Any = [
    "846f9a295ffe62148cb5777b605a7038a1f30df1bcf714fa7708b3e22e103e42",
    "32e60a0732a3233cefa5f6f59245651148758019d1ac6d651e81191f563a3fea",
]
EXAMPLE_PROMPT = "a photo of a person, smiling"
EXAMPLE_REQUEST: Any = {"prompts": [EXAMPLE_PROMPT], "num_images": 2, "sampling": {"steps": 4}}
EXAMPLE_CONSENT: Any = {"basis": "permission", "given_by": "Anna", "until": "2999-12-31"}


def _to_request(value: Any) -> ImageRequest:
    """One type reads a request, whoever sends it. Raises RecipeError, which names the key."""
    return value if isinstance(value, ImageRequest) else from_table(ImageRequest, value, "the request")


RequestForm = Annotated[ImageRequest, BeforeValidator(_to_request, json_schema_input_type=ImageRequest)]


class Form(BaseModel):
    """What a client sends: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class ErrorParts(BaseModel):
    """An error in OpenAI's shape, and its three parts."""

    message: str
    type: str
    code: str | None = None
    param: str | None = None
    found: str = ""
    needed: str = ""
    action: str = ""


class ErrorView(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorParts


class JobForm(Form):
    """Images of a saved person, or of the person in uploaded photos."""

    model_config = ConfigDict(json_schema_extra={"example": {"person": "anna", "request": EXAMPLE_REQUEST}})

    request: RequestForm
    person: Name | None = None
    photos: list[Sha256] = Field(default=[], max_length=MAX_PHOTOS)
    priority: int = Field(default=0, ge=-100, le=100, description="a job with a higher one is done before")
    webhook: str | None = Field(default=None, max_length=2_000, description="an address of an allowed host, told when it ends")


class JobError(BaseModel):
    """Why a job failed, or waits."""

    found: str
    needed: str
    action: str


class JobView(BaseModel):
    """A job. done of total: images. position: how many wait before it, None unless it waits. notes: of `tenth generate`."""

    id: str
    kind: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int
    total: int
    position: int | None = None
    person: str | None = None
    request: dict[str, Any]
    pictures: list[str]
    notes: list[str] = []
    error: JobError | None = None
    created: float = Field(description="seconds since 1970")
    started: float | None = None
    finished: float | None = None


class JobPage(BaseModel):
    """Jobs, the newest first. next: the `before` of the page after it, None for the last page."""

    data: list[JobView]
    next: str | None = None


class PictureView(BaseModel):
    """A picture in the gallery. identity: similarity to the person's photos, where it was measured."""

    id: str
    job: str
    person: str | None = None
    seed: int
    prompt: str
    method: str
    identity: float | None = None
    created: float
    width: int
    height: int
    kept: bool


class PictureDetail(PictureView):
    """One picture with the settings in its PNG, and what was measured on it."""

    settings: dict[str, Any]
    figures: dict[str, Any]


class PicturePage(BaseModel):
    """Pictures, the newest first. next: the `before` of the page after it, None for the last page."""

    data: list[PictureView]
    next: str | None = None


class PictureChange(Form):
    """Whether it is kept when retention removes old ones."""

    model_config = ConfigDict(json_schema_extra={"example": {"kept": True}})

    kept: bool


class ZipForm(Form):
    """Pictures to put into one file."""

    ids: list[JobId] = Field(min_length=1, max_length=MAX_ZIP_PICTURES)


class ConsentForm(Form):
    """What the person agreed to: `self`, `permission` or `licensed` data; who gave it, when, and until when."""

    basis: Literal["self", "permission", "licensed"]
    given_by: str = Field(default="", max_length=200, description="needed but for self")
    date: dt.date | None = Field(default=None, description="today, where it is left out")
    until: dt.date | None = None


class PersonForm(Form):
    """A person to save: a name, photos that were uploaded before, and a consent."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "bert", "photos": EXAMPLE_PHOTOS, "consent": EXAMPLE_CONSENT}}
    )

    name: Name
    photos: list[Sha256] = Field(min_length=1, max_length=MAX_PHOTOS)
    consent: ConsentForm


class ConsentView(BaseModel):
    """A consent as it was recorded. is_current: whether it holds today; where it does not, no image is made."""

    basis: str
    given_by: str
    date: dt.date
    until: dt.date | None = None
    is_current: bool


class PhotoView(BaseModel):
    """What is said of an uploaded file. face: left, top, right, bottom in fractions of the photo."""

    sha256: str | None = None
    file: str
    accepted: bool
    code: str | None = None
    reason: str | None = None
    face: list[float] | None = None
    width: int | None = None
    height: int | None = None


class PersonView(BaseModel):
    """A saved person. methods: those with an identity made already. problem: why it cannot be used, "" if it can."""

    name: str
    created: dt.datetime | None = None
    num_photos: int
    methods: list[str]
    consent: ConsentView | None = None
    problem: str = ""


class PersonList(BaseModel):
    """Everybody who is saved, by name."""

    data: list[PersonView]


class RemovedView(BaseModel):
    """How many of each were removed."""

    removed: dict[str, int]


class ModelView(BaseModel):
    """A model or a method, in the shape of OpenAI's list of models."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "tenth"
    description: str = ""


class ModelList(BaseModel):
    """Models or methods."""

    object: Literal["list"] = "list"
    data: list[ModelView]


class Health(BaseModel):
    """Whether the server answers, and how much it has to do."""

    status: Literal["ok"] = "ok"
    queued: int
    running: int
    workers: int


class RunView(BaseModel):
    """An experiment or a training in a folder given at start. done, total: images, 0 where they are unknown."""

    id: str
    name: str
    kind: str
    status: Literal["running", "done", "stopped"]
    done: int
    total: int
    metrics: dict[str, float | str]
    changed: float = Field(description="when its files changed last, in seconds since 1970")


class RunDetail(RunView):
    """One run with its settings, and of a training a row for each validation."""

    settings: dict[str, Any]
    history: list[dict[str, Any]]


class RunList(BaseModel):
    """Runs, the one that changed last first."""

    data: list[RunView]
