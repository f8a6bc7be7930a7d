"""Where the files of the pocket model are."""

from __future__ import annotations

from pathlib import Path

CONFIGS = Path(__file__).parent / "model"  # diffusers' folder layout: what is trained is what these files describe
ADAPTER = "ip-adapter/ip-adapter.safetensors"
ENCODER = "image_encoder/statistics.safetensors"


PHOTOS = Path(__file__).parent / "photos"  # nine photos of a person who does not exist, drawn by the model itself
