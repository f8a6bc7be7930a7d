"""Where the files of the pocket model are."""

from __future__ import annotations

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"  # diffusers' folder layout: what is trained is what these files describe
ADAPTER_PATH = "ip-adapter/ip-adapter.safetensors"
STATISTICS_PATH = "image_encoder/statistics.safetensors"
EXAMPLE_PHOTOS_DIR = Path(__file__).parent / "photos"  # nine photos of a person who does not exist, drawn by the model itself
