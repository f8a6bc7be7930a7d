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


def is_https(request: Request) -> bool:
    """Whether the client speaks TLS: with this server, or with a proxy before it, which says so."""
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "").partition(",")[0].strip() == "https"


Owner = Annotated[str, Depends(owner_of)]
Settings = Annotated[ServerSettings, Depends(settings_of)]
