"""The application: routers behind the checks that every request passes. It imports no torch: workers and the photo child do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI

from tenth.core.files.writing import make_private_folder
from tenth.server.api import a1111, events, health, images, info, jobs, people, photos, pictures
from tenth.server.api.errors import add_error_answers
from tenth.server.api.schemas import ErrorView
from tenth.server.page import routes as page
from tenth.server.security import session
from tenth.server.security.gate import Gate
from tenth.server.security.staged_photos import StagedPhotos
from tenth.server.security.users import load_users
from tenth.server.services import open_services
from tenth.server.settings import ServerSettings
from tenth.server.webhooks import secret_key, webhooks_delivered

PARTS = (page, session, health, info, photos, people, jobs, events, pictures, images, a1111)
ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorView}, "5XX": {"model": ErrorView}}
CLEANING_SECONDS = 600  # between two looks for photos that nobody used


def create_app(settings: ServerSettings) -> FastAPI:
    """The server's application. Its folder is made if it is missing. Raises DataError if that fails.

    And for a users file, a token, or a secret of the webhooks, that is not usable.
    """
    if settings.webhook_secret:
        secret_key(settings.webhook_secret)
    for folder in (settings.data, settings.data / "uploads", settings.data / "jobs"):  # a given folder may be open to all
        make_private_folder(folder)
    users, staged, services = load_users(settings), StagedPhotos(settings), open_services(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        cleaning = asyncio.create_task(_remove_old(staged))
        async with webhooks_delivered(settings, services.database, partial(jobs.webhook_message, services)):
            yield
        cleaning.cancel()
        with suppress(asyncio.CancelledError):
            await cleaning
        await staged.child.close()

    app = FastAPI(title="tenth", docs_url=None, redoc_url=None, lifespan=lifespan, responses=ERRORS)
    app.state.settings, app.state.users, app.state.photos, app.state.services = settings, users, staged, services
    app.add_middleware(Gate, settings=settings, users=users)
    add_error_answers(app, settings.data)
    for part in PARTS:
        app.include_router(part.router)
    return app


async def _remove_old(photos: StagedPhotos) -> None:
    while True:
        await asyncio.to_thread(photos.remove_old)
        await asyncio.sleep(CLEANING_SECONDS)
