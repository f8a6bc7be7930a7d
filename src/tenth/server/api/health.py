"""GET /health: whether the server answers, and what waits. Needs no token, and says nothing about anybody."""

from __future__ import annotations

from fastapi import APIRouter, Request

from tenth.server.api.schemas import Health
from tenth.server.queue.supervisor import Supervisor
from tenth.server.services import TheServices

router = APIRouter(tags=["info"])


@router.get("/health")
async def health(request: Request, services: TheServices) -> Health:
    """Whether the server answers; jobs that wait and run, and workers that live.

    On the loop itself, as a read of two short indexes never waits: whoever asks it waits for no thread.
    """
    supervisor: Supervisor | None = getattr(request.app.state, "supervisor", None)
    counts = services.queue.counts()
    workers = len(supervisor.process_ids) if supervisor else 0
    return Health(queued=counts["queued"], running=counts["running"], workers=workers)
