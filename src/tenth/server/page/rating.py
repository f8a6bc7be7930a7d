"""The page of `tenth benchmark rate`: pairs of images, and a rater's choices. Which image is whose stays on this side of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict

from tenth.core.files.claims import exclusive_folder
from tenth.data.photo import open_photo
from tenth.experiments.rating.study import QUESTIONS, Study
from tenth.server.api.errors import add_error_answers, not_found
from tenth.server.page.routes import static_file, to_response
from tenth.server.page.static_files import static_files
from tenth.server.security.gate import Gate
from tenth.server.security.users import Users
from tenth.server.settings import ServerSettings
from tenth.server.start import address, end_on_signals, listen, run_app

PAGE = "rating.html"
DEFAULT_PORT = 7320
MAX_IMAGE_SIDE, MAX_PHOTO_SIDE = 2048, 512  # pixels
router = APIRouter()


def serve_rating(study: Study, port: int, started: Callable[[str], None]) -> None:
    """Serve a study on this machine alone, until the rater ends it, Ctrl-C or SIGTERM. started: called with the address.

    Raises DataError if the port is taken, CheckpointError if another process serves the same study.
    """
    settings = ServerSettings(data=study.folder, host="127.0.0.1", port=port)
    end_on_signals()
    with exclusive_folder(study.folder), listen(settings) as listener:
        study.choices.read()  # another rater may have ended since it was opened
        app = create_rating_app(study, settings)
        run_app(app, settings, listener, lambda: started(address(settings, listener.getsockname()[1])))


def create_rating_app(study: Study, settings: ServerSettings) -> FastAPI:
    """The application, behind the checks that `tenth serve` has."""
    app = FastAPI(title="tenth", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.study = study
    app.add_middleware(Gate, settings=settings, users=Users({}, b""))
    add_error_answers(app, study.folder)
    app.include_router(router)
    app.get("/static/{name:path}")(static_file)
    return app


class NewChoice(BaseModel):
    """What a rater chose."""

    model_config = ConfigDict(extra="forbid")
    choice: Literal["left", "right", "tie", "skip"]


async def _study(request: Request) -> Study:
    study = request.app.state.study
    assert isinstance(study, Study)
    return study


TheStudy = Annotated[Study, Depends(_study)]


@router.get("/")
def page(request: Request) -> Response:
    """The page."""
    return to_response(static_files()[PAGE], request)


@router.get("/health")
async def health() -> dict[str, Any]:
    """That the server answers."""
    return {}


@router.get("/v1/rating")
def next_pair(study: TheStudy) -> dict[str, Any]:
    """The first pair without a choice; without an index where all are chosen."""
    return _view(study, study.next_index)


@router.get("/v1/rating/{index}")
def pair(index: int, study: TheStudy) -> dict[str, Any]:
    """A pair, and what was chosen of it."""
    _check_index(study, index)
    return _view(study, index)


@router.put("/v1/rating/{index}")
def choose(index: int, new: NewChoice, study: TheStudy) -> dict[str, Any]:
    """Store a choice; it is on the disk when the answer comes. Answers as `next_pair`."""
    _check_index(study, index)
    study.choose(index, new.choice)
    return next_pair(study)


@router.get("/v1/rating/{index}/{side}.png")
def image(index: int, side: Literal["left", "right"], study: TheStudy) -> Response:
    """An image of a pair: its pixels alone, without what a file says of itself."""
    _check_index(study, index)
    shown = study.order[index]
    return _to_png(shown.pair.images[shown.left if side == "left" else shown.right], MAX_IMAGE_SIDE)


@router.get("/v1/rating/{index}/photos/{number}.png")
def photo(index: int, number: int, study: TheStudy) -> Response:
    """A real photo of the person of a pair."""
    _check_index(study, index)
    photos = study.order[index].pair.photos
    if not 0 <= number < len(photos):
        raise not_found("photo", str(number))
    return _to_png(photos[number], MAX_PHOTO_SIDE)


@router.post("/v1/rating/end", status_code=204)
async def end(request: Request) -> Response:
    """End the server, when this is answered."""
    server: uvicorn.Server | None = getattr(request.app.state, "server", None)
    if server is not None:
        server.should_exit = True
    return Response(status_code=204)


def _check_index(study: Study, index: int) -> None:
    if not 0 <= index < len(study.order):
        raise not_found("pair", str(index))


def _view(study: Study, index: int) -> dict[str, Any]:
    """What the page shows of a pair. index: the number of pairs, where all are chosen."""
    view = {
        "question": QUESTIONS[study.options.question],
        "rater": study.options.rater,
        "pairs": len(study.order),
        "chosen": study.num_chosen,
        "index": None,
    }
    if index == len(study.order):
        return view
    pair = study.order[index].pair
    return view | {"index": index, "prompt": pair.prompt, "photos": len(pair.photos), "choice": study.choice(index)}


def _to_png(path: Path, max_side: int) -> Response:
    content = io.BytesIO()
    Image.fromarray(open_photo(path, max_side).pixels).save(content, "PNG", compress_level=1)  # to this machine: speed counts
    return Response(content.getvalue(), media_type="image/png")
