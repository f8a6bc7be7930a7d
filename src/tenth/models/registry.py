"""Every model by the name that users type, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.errors import ModelError, unknown_name
from tenth.core.files.reading import printable_name
from tenth.core.types import DiffusionModel, Entry
from tenth.models.families.loader import family_in, load_flow_model
from tenth.models.hub.lockfile import check_folder, local_model_dir
from tenth.models.hub.published import PUBLISHED, parse_model_name
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import DEFAULT_OPTIONS, LoadOptions, with_environment
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH
from tenth.models.stable_diffusion import load_stable_diffusion

OnMessage = Callable[[str], None]  # called with a line for the user


def _load_pocket(
    folder: Path, cache: ArrayCache, adapter: Path | None, options: LoadOptions, _: OnMessage | None, lora: Path | None
) -> LatentDiffusion:
    """A small model, which needs no memory profile."""
    if lora is not None:
        found, needed = f"the LoRA {lora} for a pocket model", "a LoRA is for Stable Diffusion's families"
        raise ModelError(found, needed, "Leave --lora out, or choose another --model")
    name = DEFAULT_MODEL if folder == MODEL_DIR else printable_name(folder)
    return load_pocket(folder, cache, name=name, adapter=adapter, device=options.device, backend=options.backend)


def _load_downloaded(
    name: str, cache: ArrayCache, adapter: Path | None, options: LoadOptions, on_message: OnMessage | None, lora: Path | None
) -> DiffusionModel:
    return _load_diffusers(local_model_dir(name), cache, adapter, options, on_message, lora)


def _load_diffusers(
    folder: Path, cache: ArrayCache, adapter: Path | None, options: LoadOptions, on_message: OnMessage | None, lora: Path | None
) -> DiffusionModel:
    """A folder in diffusers' layout: of a family of transformers, if its index names one."""
    family = family_in(folder)
    if family is None:
        return load_stable_diffusion(folder, adapter, options, on_message, cache, lora)
    return load_flow_model(folder, options, on_message, family, lora, adapter)


DEFAULT_MODEL = "pocket"
MODELS: Mapping[str, Entry[Callable[..., DiffusionModel]]] = {
    DEFAULT_MODEL: Entry(
        partial(_load_pocket, MODEL_DIR), "faces at 128 x 128, in the package: no network, two CPU cores; research use (LFW)"
    ),
    **{name: Entry(partial(_load_downloaded, name), row.description) for name, row in PUBLISHED.items()},
}


def load_model(
    name: str | Path = DEFAULT_MODEL,
    adapter: str | Path | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
    on_message: OnMessage | None = None,
    lora: str | Path | None = None,
) -> DiffusionModel:
    """A model by name, a folder, or owner/name of a repository that `tenth models download` has brought.

    A folder: of the pocket model's layout, of Stable Diffusion (stable_diffusion.py) or a family (families/loader.py).
    adapter: another IP-Adapter's file. lora: added to the weights. options: what they leave open comes from the environment.
    on_message: gets a line about the memory profile. Raises InputError for an unknown name, ModelError for a model that is not
    downloaded, or is damaged.
    """
    cache, name = ArrayCache(default_cache_dir()), str(name)
    adapter, lora = (None if file is None else Path(file) for file in (adapter, lora))
    folder, arguments = Path(name), (cache, adapter, with_environment(options), on_message, lora)
    if name in MODELS:
        return MODELS[name].value(*arguments)
    if (folder / STATISTICS_PATH).is_file():
        return _load_pocket(folder, *arguments)
    if folder.is_dir():
        check_folder(folder)
        return _load_diffusers(folder, *arguments)
    if parse_model_name(name):
        return _load_downloaded(name, *arguments)
    others = ["a folder in the layout of the pocket model or of diffusers", "owner/name of a repository on the hub"]
    raise unknown_name("model", name, [*MODELS, *others])
