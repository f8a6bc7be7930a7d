"""Every method, metric, model and stage of training by the name that users type: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from tenth.adapt.dreambooth import DreamBooth, read_method
from tenth.adapt.ip_adapter import IPAdapter
from tenth.adapt.together import Together
from tenth.adapt.trained import TrainedAdapter
from tenth.aggregate.pool import concatenation, consensus, first, maximum, mean
from tenth.aggregate.saved import FILE
from tenth.choosing import open_choice
from tenth.diffusion import LatentDiffusion
from tenth.encode.store import Store, default_store
from tenth.errors import ModelError, RecipeError, unknown_name
from tenth.evaluate.diversity import identity_diversity
from tenth.evaluate.face_distance import face_distance
from tenth.evaluate.fid import fid, fid_infinity
from tenth.evaluate.identity import copy_index, detection, identity, stranger
from tenth.evaluate.inception_score import inception_score
from tenth.evaluate.kid import kid
from tenth.evaluate.precision_recall import coverage, density, precision, recall
from tenth.file_reading import name_of
from tenth.locked import check_folder, downloaded
from tenth.memory import ANY, Use, asked
from tenth.places import PLUS
from tenth.pocket.load import load_pocket
from tenth.pocket.pack import ENCODER
from tenth.pocket.train_autoencoder import AutoencoderRecipe, train_autoencoder
from tenth.pocket.train_decoder import DecoderRecipe, train_decoder
from tenth.pocket.train_diffusion import DiffusionRecipe, train_diffusion
from tenth.pocket.train_signs import SignsRecipe, train_signs
from tenth.published import PUBLISHED, source_of
from tenth.stable import load_stable
from tenth.train import AdapterRecipe, train_adapter
from tenth.types import Aggregator, Method, Metric
from tenth.wording import did_you_mean

Kind = TypeVar("Kind")
Tell = Callable[[str], None]  # hears a line for the user


@dataclass(frozen=True)
class Entry(Generic[Kind]):
    """A row of a table: the thing itself, and a line that says what it does."""

    thing: Kind
    text: str


@dataclass(frozen=True)
class Stage:
    """What `tenth train` can train. recipe: the dataclass of its TOML file. train: writes `directory`/final, last."""

    recipe: type[Any]
    train: Callable[[Any, Path], None]
    text: str


def _pooled(name: str, aggregate: Aggregator, text: str) -> dict[str, Entry[Method]]:
    return {name: Entry(IPAdapter(name, aggregate), text)}


def _trained(name: str, text: str) -> dict[str, Entry[Method]]:
    return {name: Entry(TrainedAdapter(name), text)}


def _tuned(name: str, text: str) -> dict[str, Entry[Method]]:
    return {name: Entry(DreamBooth(name, choose=open_choice), text)}


def _load_package(store: Store, adapter: Path | None, use: Use, tell: Tell | None, lora: Path | None = None) -> LatentDiffusion:
    del tell  # a small model is on no ladder
    _check_no_lora(lora)
    return load_pocket(store=store, adapter=adapter, device=use.device)


def _load_downloaded(
    name: str, store: Store, adapter: Path | None, use: Use, tell: Tell | None, lora: Path | None = None
) -> LatentDiffusion:
    return load_stable(downloaded(name), adapter, use, tell, store, lora)


def _check_no_lora(lora: Path | None) -> None:
    if lora is not None:
        raise ModelError(
            f"the LoRA {lora} for a pocket model",
            "a LoRA is for Stable Diffusion's families",
            "Leave --lora out, or choose another --model",
        )


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
QUICK = tuple(name for name, entry in METHODS.items() if not isinstance(entry.thing, DreamBooth))  # learn nothing per person
METRICS: Mapping[str, Entry[Metric]] = {
    "identity":           Entry(identity,           "cosine of generated images to held-out photos of the same person"),
    "stranger":           Entry(stranger,           "cosine of generated images to held-out photos of other people: the floor"),
    "detection":          Entry(detection,          "share of generated images with a face"),
    "copy-index":         Entry(copy_index,         "1 for a copied reference, 0 for a new photo"),
    "identity-diversity": Entry(identity_diversity, "1 - cosine between generated images of the same person"),
    "face-distance":      Entry(face_distance,      "distance of a face recogniser's Gaussians: never called FID"),
    "fid":                Entry(fid,                "distance of Inception features' Gaussians: compare at equal counts"),
    "fid-infinity":       Entry(fid_infinity,       "the same for endlessly many generated images, extrapolated"),
    "kid":                Entry(kid,                "kernel distance of Inception features: unbiased at any count"),
    "inception-score":    Entry(inception_score,    "clear and varied ImageNet classes; means little on faces"),
    "precision":          Entry(precision,          "share of generated images that lie among held-out photos"),
    "recall":             Entry(recall,             "share of held-out photos that lie among generated images"),
    "density":            Entry(density,            "how deep generated images lie among held-out photos: 1 for photos"),
    "coverage":           Entry(coverage,           "share of held-out photos with a generated image near"),
}
MODELS: Mapping[str, Entry[Callable[..., LatentDiffusion]]] = {
    "pocket":     Entry(_load_package, "faces at 128 x 128, in the package: no network, two CPU cores; research use (LFW)"),
    **{name: Entry(partial(_load_downloaded, name), row.text) for name, row in PUBLISHED.items()},
}


def _train_adapter(recipe: AdapterRecipe, directory: Path) -> None:
    train_adapter(recipe, load_model(recipe.model, use=Use(device="cpu", whole=True)), directory)


STAGES: Mapping[str, Stage] = {  # by the key `stage` of a recipe
    "autoencoder": Stage(AutoencoderRecipe, train_autoencoder, "the pocket model's autoencoder"),
    "decoder":     Stage(DecoderRecipe,     train_decoder,     "the pocket model's decoder, sharper on the same latents"),
    "diffusion":   Stage(DiffusionRecipe,   train_diffusion,   "the pocket model's UNet, text encoder and IP-Adapter"),
    "signs":       Stage(SignsRecipe,       train_signs,       "what is to be seen on a face, to judge prompts by"),
    "adapter":     Stage(AdapterRecipe,     _train_adapter,    "an aggregator of several photos and its adapter"),
}
# fmt: on
RECIPE = ".toml"
DEFAULT_METHOD = "ip-adapter-consensus"
DEFAULT_MODEL = "pocket"


def method(name: str | Path) -> Method:
    """A method by name, by the folder that `tenth train` wrote, or by a recipe that changes settings of DreamBooth.

    Two of these with a plus between them are in force together: one that learns each person, then one that does not.
    Raises InputError that lists the known ones, RecipeError for what a recipe says or for two that do not go together.
    """
    if (Path(name) / FILE).is_file():
        return trained_method(name)
    name = str(name)
    if name.endswith(RECIPE):
        tuned = {known: entry.thing for known, entry in METHODS.items() if isinstance(entry.thing, DreamBooth)}
        return read_method(Path(name), tuned)
    first_name, _, second_name = name.rpartition(PLUS)
    if first_name and second_name:
        return _together(method(first_name), method(second_name), name)
    if name not in METHODS:
        raise unknown_name("method", name, [*METHODS, *PAIRS])
    return METHODS[name].thing


def _together(learnt: Method, adapted: Method, name: str) -> Together:
    if not isinstance(learnt, DreamBooth) or learns(adapted):
        needed = "one that learns each person, a plus, and one that does not are needed"
        raise RecipeError(f"the method {name}", needed, f"Try {PAIR}")
    return Together(learnt, adapted)


def trained_method(folder: str | Path) -> TrainedAdapter:
    """The method in a folder that `tenth train` wrote, named after the folder around it."""
    return TrainedAdapter(name_of(Path(folder).resolve().parent), Path(folder))


def learns(thing: Method) -> bool:
    """Whether a method changes weights of the model for each person, which needs them in float32."""
    return isinstance(thing, DreamBooth | Together)


# What to type for two together, by the pair that was measured: any that learns each person goes with any that does not.
PAIR = f"dreambooth{PLUS}{DEFAULT_METHOD}"
PAIRS: Mapping[str, Entry[Method]] = {
    PAIR: Entry(method(PAIR), "two in force together: any that learns a person, a plus, any that does not")
}


def load_model(
    name: str | Path = DEFAULT_MODEL,
    store: Store | None = None,
    adapter: str | Path | None = None,
    use: Use = ANY,
    tell: Tell | None = None,
    lora: str | Path | None = None,
) -> LatentDiffusion:
    """A model by name, a folder, or a repository of the hub as owner/name, which `tenth models --download` has brought.

    A folder: one of the pocket model's layout that a recipe trained, or of Stable Diffusion (stable.py). Nothing is downloaded
    here. adapter: an IP-Adapter's file instead of the model's own. Photo embeddings are kept in the store.
    use: what for, where and on which rung of the ladder in memory.py; what it leaves open the environment may say. tell:
    hears, before a large model is loaded, which rung that is. lora: of Stable Diffusion's families, added to the weights.

    Raises InputError for an unknown name, ModelError for one that is not downloaded, or whose files are damaged or other ones.
    """
    store, name = store or Store(default_store()), str(name)
    adapter, lora = (None if file is None else Path(file) for file in (adapter, lora))
    if name in MODELS:
        return MODELS[name].thing(store, adapter, asked(use), tell, lora)
    if Path(name).is_dir():
        pocket = (Path(name) / ENCODER).is_file()
        if pocket:
            _check_no_lora(lora)
            return load_pocket(Path(name), store, name=name_of(name), adapter=adapter, device=asked(use).device)
        check_folder(Path(name))
        return load_stable(Path(name), adapter, asked(use), tell, store, lora)
    if source_of(name):
        return _load_downloaded(name, store, adapter, asked(use), tell, lora)
    others = ["a folder in the layout of the pocket model or of diffusers", "owner/name of a repository on the hub"]
    raise unknown_name("model", name, [*MODELS, *others])


def stage(table: Mapping[str, Any], where: str = "the recipe") -> Stage:
    """The stage that a recipe's table names with its key `stage`. Raises RecipeError that lists the known ones."""
    name = table.get("stage")
    if not isinstance(name, str) or name not in STAGES:
        known = ", ".join(repr(each) for each in STAGES)
        action = did_you_mean(str(name), list(STAGES)) + "Correct the key `stage`"
        raise RecipeError(f"{where} has stage {name!r}", f"known stages: {known}", action)
    return STAGES[name]
