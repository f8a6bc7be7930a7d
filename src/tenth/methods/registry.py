"""Every method by the name that users type. A new method is one file and one row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from tenth.core.errors import RecipeError, unknown_name
from tenth.core.files.reading import printable_name
from tenth.core.run_record import METHOD_SEPARATOR
from tenth.core.types import Entry, Method
from tenth.methods.combined import CombinedMethod, FineTuningMethod
from tenth.methods.dreambooth.checkpoint_selection import build_selector
from tenth.methods.dreambooth.method import DreamBooth, read_method
from tenth.methods.ip_adapter import IPAdapter
from tenth.methods.photos_in_context import PhotosInContext
from tenth.methods.trained_adapter import TrainedAdapter
from tenth.models.aggregators.checkpoint import AGGREGATOR_FILE
from tenth.models.aggregators.pooling import concatenation, consensus, first, maximum, mean

# fmt: off
_FINE_TUNING: tuple[tuple[DreamBooth, str], ...] = (  # recipes change their settings
    (DreamBooth("dreambooth",      selector_factory=build_selector), "the model itself, all of its weights: minutes for each person, and a large file"),  # noqa: E501
    (DreamBooth("dreambooth-lora", selector_factory=build_selector), "the model itself, by low-rank matrices: minutes for each person, and a small file"),  # noqa: E501
)
_METHODS: tuple[tuple[Method, str], ...] = (
    (IPAdapter("ip-adapter",           first),         "one photo, the first in file-name order"),
    (IPAdapter("ip-adapter-max",       maximum),       "all photos, element-wise maximum of their embeddings"),
    (IPAdapter("ip-adapter-avg",       mean),          "all photos, mean of their embeddings"),
    (IPAdapter("ip-adapter-concat",    concatenation), "all photos, their tokens side by side"),
    (IPAdapter("ip-adapter-consensus", consensus),     "all photos, mean weighted by agreement: a wrong photo hardly counts"),
    (TrainedAdapter("ip-adapter-attention"), "nine photos, self-attention trained leave-one-out on many people"),
    (TrainedAdapter("ip-adapter-set"), "any number of photos, weights trained on many people; untrained it is the consensus"),
    (PhotosInContext(), "the best few photos themselves, which models such as FLUX.2 klein read beside the prompt"),
    *_FINE_TUNING,
)
# fmt: on
METHODS: Mapping[str, Entry[Method]] = {entry.name: Entry(entry, description) for entry, description in _METHODS}
TUNING_FREE_METHODS = tuple(name for name, entry in METHODS.items() if not entry.value.tunes_model)
ADAPTER_METHODS = tuple(name for name in TUNING_FREE_METHODS if not METHODS[name].value.keeps_photos)

RECIPE_SUFFIX = ".toml"
DEFAULT_METHOD = "ip-adapter-consensus"


def method(name: str | Path) -> Method:
    """A method by name, by the folder that `tenth train` wrote, or by a recipe that changes the settings of DreamBooth.

    Two names with a plus between them combine a method that fine-tunes with one that does not.
    Raises InputError that lists the known names, RecipeError for a wrong recipe or two methods that cannot be combined.
    """
    if (Path(name) / AGGREGATOR_FILE).is_file():
        return trained_method(name)
    name = str(name)
    if name.endswith(RECIPE_SUFFIX):
        return read_method(Path(name), {entry.name: entry for entry, _ in _FINE_TUNING})
    first_name, _, second_name = name.rpartition(METHOD_SEPARATOR)
    if first_name and second_name:
        return _combine(method(first_name), method(second_name), name)
    if name not in METHODS:
        raise unknown_name("method", name, [*METHODS, *COMBINATIONS])
    return METHODS[name].value


def method_parts(names: Iterable[str]) -> list[str]:
    """The names of methods, of combined ones of both, each once."""
    parts = ([name] if Path(name).exists() else name.split(METHOD_SEPARATOR) for name in names)
    return list(dict.fromkeys(chain.from_iterable(parts)))


def _combine(fine_tuned: Method, adapter: Method, name: str) -> CombinedMethod:
    if not isinstance(fine_tuned, FineTuningMethod) or adapter.tunes_model:
        needed = "a method that fine-tunes for each person, a plus, and one that does not are needed"
        raise RecipeError(f"the method {name}", needed, f"Try {COMBINATION}")
    return CombinedMethod(fine_tuned, adapter)


def trained_method(folder: str | Path) -> TrainedAdapter:
    """The method in a folder that `tenth train` wrote, named after the folder around it."""
    return TrainedAdapter(printable_name(Path(folder).resolve().parent), Path(folder))


# The combination that was measured, as an example: any method that fine-tunes goes with any that does not.
COMBINATION = f"dreambooth{METHOD_SEPARATOR}{DEFAULT_METHOD}"
COMBINATIONS: Mapping[str, Entry[Method]] = {
    COMBINATION: Entry(method(COMBINATION), "two combined: any that fine-tunes, a plus, any that does not")
}
