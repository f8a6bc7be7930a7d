"""The HTTP API: what is asked, answered, and refused in three parts."""

from __future__ import annotations

from tenth.server.api import health, photos

__all__ = ["ROUTERS"]

ROUTERS = (health.router, photos.router)
