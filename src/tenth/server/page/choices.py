"""What the page's form offers beside what the API lists: bounds and defaults of settings. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from tenth.sampling import bounds
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.resolutions import SIZE_MULTIPLE
from tenth.sampling.schedulers import SCHEDULERS

LARGEST_SEED = 2**53 - 1  # a browser's numbers are exact up to it


def choices() -> dict[str, Any]:
    """Bounds by setting, each {"min", "max", "integer"}, and the defaults, schedulers and step of sizes, for JSON."""
    ranges = {
        name: {"min": allowed.minimum, "max": allowed.maximum, "integer": allowed.integer}
        for name, allowed in bounds.SETTING_RANGES.items()
    }
    ranges["seed"]["max"] = LARGEST_SEED
    return {
        "ranges": ranges,
        "defaults": {name: getattr(SamplingConfig(), name) for name in ("ip_adapter_scale", "text_guidance_scale")},
        "schedulers": list(SCHEDULERS),
        "size_multiple": SIZE_MULTIPLE,
        "max_prompt_chars": bounds.MAX_PROMPT_CHARS,
    }
