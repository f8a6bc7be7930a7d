"""The application: routers behind the checks that every request passes. It imports no torch: workers and the photo child do."""

from __future__ import annotations

from fastapi import FastAPI

from tenth.core.files.writing import make_private_folder
from tenth.server.api import ROUTERS
from tenth.server.api.errors import add_error_answers
from tenth.server.settings import ServerSettings


def create_app(settings: ServerSettings) -> FastAPI:
    """The server's application. Its folder is made if it is missing. Raises DataError if that fails."""
    make_private_folder(settings.data)
    app = FastAPI(title="tenth", docs_url=None, redoc_url=None)
    app.state.settings = settings
    add_error_answers(app, hidden=[str(settings.data.absolute())])
    for router in ROUTERS:
        app.include_router(router)
    return app
