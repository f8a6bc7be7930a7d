"""What a shell completes after an option: names, listed without the libraries that loading what they name would import."""

from __future__ import annotations

METHOD_NAMES = (
    *("ip-adapter", "ip-adapter-max", "ip-adapter-avg", "ip-adapter-concat", "ip-adapter-consensus"),
    *("ip-adapter-attention", "ip-adapter-set", "photos-in-context"),
    *("dreambooth", "dreambooth-lora", "dreambooth+ip-adapter-consensus"),
)  # those of methods/registry.py, which imports torch; a test compares the two
MODEL_NAMES = (
    *("pocket", "sd15", "sdxl", "flux2-klein-4b", "flux2-klein-base-4b", "qwen-image-edit", "z-image"),
)  # those of models/registry.py, too


def method_names() -> list[str]:
    """The methods by name."""
    return list(METHOD_NAMES)


def model_names() -> list[str]:
    """The models by name, and those of the hub that are locked besides; the former alone where the lock cannot be read."""
    from tenth.core.errors import TenthError
    from tenth.models.hub.lockfile import models_dir, read_lock

    try:
        return list(dict.fromkeys([*MODEL_NAMES, *read_lock(models_dir())]))
    except (TenthError, OSError):  # nothing may be said to a shell that asks
        return list(MODEL_NAMES)


def saved_names() -> list[str]:
    """The people who are saved."""
    from tenth.methods.people.folder import PeopleFolder

    return PeopleFolder().names()
