"""Every method, metric, model and stage of training by the name that users type: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tenth.core.errors import RecipeError, unknown_name
from tenth.core.files.reading import printable_name
from tenth.core.run_record import METHOD_SEPARATOR
from tenth.core.types import Aggregator, Entry, Method
from tenth.methods.combined import CombinedMethod
from tenth.methods.dreambooth.checkpoint_selection import build_selector
from tenth.methods.dreambooth.method import DreamBooth, read_method
from tenth.methods.ip_adapter import IPAdapter
from tenth.methods.trained_adapter import TrainedAdapter
from tenth.models.aggregators.checkpoint import AGGREGATOR_FILE
from tenth.models.aggregators.pooling import concatenation, consensus, first, maximum, mean


def _pooled(name: str, aggregate: Aggregator, text: str) -> dict[str, Entry[Method]]:
    return {name: Entry(IPAdapter(name, aggregate), text)}


def _trained(name: str, text: str) -> dict[str, Entry[Method]]:
    return {name: Entry(TrainedAdapter(name), text)}


def _tuned(name: str, text: str) -> dict[str, Entry[Method]]:
    return {name: Entry(DreamBooth(name, selector_factory=build_selector), text)}


# fmt: off
METHODS: Mapping[str, Entry[Method]] = {
    **_pooled("ip-adapter",           first,         "one photo, the first in file-name order"),
    **_pooled("ip-adapter-max",       maximum,       "all photos, element-wise maximum of their embeddings"),
    **_pooled("ip-adapter-avg",       mean,          "all photos, mean of their embeddings"),
    **_pooled("ip-adapter-concat",    concatenation, "all photos, their tokens side by side"),
    **_pooled("ip-adapter-consensus", consensus,     "all photos, mean weighted by agreement: a wrong photo hardly counts"),
    **_trained("ip-adapter-attention", "nine photos, self-attention trained leave-one-out on many people"),
    **_trained("ip-adapter-set",       "any number of photos, weights learnt on many people; begins as the consensus"),
    **_tuned("dreambooth",             "the model itself, all of its weights: minutes for each person, and a large file"),
    **_tuned("dreambooth-lora",        "the model itself, by low-rank matrices: minutes for each person, and a small file"),
}
TUNING_FREE_METHODS = tuple(name for name, entry in METHODS.items() if not isinstance(entry.value, DreamBooth))


RECIPE_SUFFIX = ".toml"
DEFAULT_METHOD = "ip-adapter-consensus"


def method(name: str | Path) -> Method:
    """A method by name, by the folder that `tenth train` wrote, or by a recipe that changes settings of DreamBooth.

    Two of these with a plus between them are in force together: one that learns each person, then one that does not.
    Raises InputError that lists the known ones, RecipeError for what a recipe says or for two that do not go together.
    """
    if (Path(name) / AGGREGATOR_FILE).is_file():
        return trained_method(name)
    name = str(name)
    if name.endswith(RECIPE_SUFFIX):
        tuned = {known: entry.value for known, entry in METHODS.items() if isinstance(entry.value, DreamBooth)}
        return read_method(Path(name), tuned)
    first_name, _, second_name = name.rpartition(METHOD_SEPARATOR)
    if first_name and second_name:
        return _combine(method(first_name), method(second_name), name)
    if name not in METHODS:
        raise unknown_name("method", name, [*METHODS, *COMBINATIONS])
    return METHODS[name].value


def _combine(fine_tuned: Method, adapter: Method, name: str) -> CombinedMethod:
    if not isinstance(fine_tuned, DreamBooth) or fine_tunes(adapter):
        needed = "one that learns each person, a plus, and one that does not are needed"
        raise RecipeError(f"the method {name}", needed, f"Try {COMBINATION}")
    return CombinedMethod(fine_tuned, adapter)


def trained_method(folder: str | Path) -> TrainedAdapter:
    """The method in a folder that `tenth train` wrote, named after the folder around it."""
    return TrainedAdapter(printable_name(Path(folder).resolve().parent), Path(folder))


def fine_tunes(thing: Method) -> bool:
    """Whether a method changes weights of the model for each person, which needs them in float32."""
    return isinstance(thing, DreamBooth | CombinedMethod)


# What to type for two together, by the pair that was measured: any that learns each person goes with any that does not.
COMBINATION = f"dreambooth{METHOD_SEPARATOR}{DEFAULT_METHOD}"
COMBINATIONS: Mapping[str, Entry[Method]] = {
    COMBINATION: Entry(method(COMBINATION), "two in force together: any that learns a person, a plus, any that does not")
}
