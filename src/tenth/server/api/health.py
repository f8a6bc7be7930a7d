"""GET /health: whether the server answers, and what waits. Needs no token, and says nothing about anybody."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()


@router.get("/health")
async def health() -> dict[str, str | int]:
    """Whether the server answers."""
    return {"status": "ok"}
