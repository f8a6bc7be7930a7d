"""Faces that are found and described once in a process: for tests whose matter is what follows from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import copy
from functools import cache
from typing import Any

import numpy as np

from tenth.data.faces import descriptors, detection


@cache
def remembered() -> dict[str, Callable[..., Any]]:
    """In the places of these functions."""
    return {
        "tenth.data.faces.detection.detect_faces": once_for_each(detection.detect_faces),
        "tenth.data.faces.descriptors._describe": once_for_each(descriptors._describe),
    }


def once_for_each(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of pixels, and what it gave for the same ones."""
    known: dict[tuple[Any, ...], Any] = {}

    def of_pixels(pixels: Any, *others: Any) -> Any:
        key = (pixels.shape, hashlib.sha256(np.ascontiguousarray(pixels)).digest(), *others)
        if key not in known:
            known[key] = function(pixels, *others)
        return copy(known[key])

    return of_pixels
