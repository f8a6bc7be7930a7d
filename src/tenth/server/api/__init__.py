"""The HTTP API: what is asked, answered, and refused in three parts."""

from __future__ import annotations

from tenth.server.api import a1111, events, health, images, info, jobs, people, photos, pictures

__all__ = ["ROUTERS"]

ROUTERS = tuple(each.router for each in (health, info, photos, people, jobs, events, pictures, images, a1111))
