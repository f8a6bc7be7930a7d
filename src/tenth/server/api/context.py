"""What a route reads of its application: whose request it is, and the settings.

@router.get("/v1/jobs")
def jobs(owner: Owner, settings: Settings) -> ...
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from tenth.server.settings import ServerSettings


async def owner_of(request: Request) -> str:
    """The user whose request it is; "" where no users are configured. What has another owner does not exist for it."""
    return str(getattr(request.state, "owner", ""))


async def settings_of(request: Request) -> ServerSettings:
    """What the server was started with."""
    settings = request.app.state.settings
    assert isinstance(settings, ServerSettings)
    return settings


Owner = Annotated[str, Depends(owner_of)]
Settings = Annotated[ServerSettings, Depends(settings_of)]
