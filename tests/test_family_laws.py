"""The laws of the house over every family of transformers, on toys with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.errors import IdentityError
from tenth.core.types import Identity
from tenth.models.families.registry import FAMILIES
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, batch_requests, generate
from tenth.sampling.passes.hires import HiresConfig, native_sizes
from toy_families import MAKERS, load_toy, toy_family, toy_photo

FEW = SamplingConfig(steps=2)
PROMPT = "a photo of a person"


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_toy(toy_family(request.param, tmp_path_factory.mktemp("family") / "toy"))


def draw(model: Any, *requests: Request, **settings: Any) -> list[np.ndarray]:
    return [sample.pixels for sample in generate(model, requests, FEW, **settings)]


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Of every network of the pipeline."""
    parts = {name: part for name, part in model.pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": value.clone() for name, part in parts.items() for key, value in part.state_dict().items()}


def of_photos(model: Any, *seeds: int) -> Identity:
    return Identity(
        "photos-in-context", model.name, "", "", context=model.encode_photos([toy_photo(64, 64, each) for each in seeds])
    )


def people(model: Any) -> list[Identity | None]:
    """Nobody, and, where the family takes photos, three people of as many photos as it takes, and one of a single one."""
    if not model.max_context_photos:
        return [None]
    most = range(model.max_context_photos)
    return [None, *(of_photos(model, *(10 * person + each for each in most)) for person in (1, 2, 3)), of_photos(model, 1)]


def test_every_family_is_a_row_of_its_name_and_has_a_toy() -> None:
    assert [family.name for family in FAMILIES.values()] == list(FAMILIES)
    assert set(FAMILIES) <= set(MAKERS)


@pytest.mark.slow
def test_law_1_drawing_leaves_the_model_as_it_was(model: Any) -> None:
    before, everybody = weights(model), people(model)
    for person in everybody:
        draw(model, Request(person, PROMPT, 0))
    tuned = Identity("dreambooth", model.name, "", "", weights={"transformer.nowhere.weight.diff": torch.ones(1)})
    with pytest.raises(IdentityError):
        draw(model, Request(tuned, PROMPT, 0))
    after = weights(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in model.pipeline.transformer.modules())


@pytest.mark.slow
def test_law_2_a_seed_is_one_image_and_two_people_in_one_batch_do_not_mix(model: Any) -> None:
    everybody = people(model)
    requests = [Request(person, PROMPT, 5) for person in everybody] + [Request(None, "a much longer prompt of a man", 5)]
    together = draw(model, *requests)
    for request, image in zip(requests, together, strict=True):
        assert furthest(image, draw(model, request)[0]) <= 1
    assert furthest(together[0], draw(model, Request(None, PROMPT, 6))[0]) > 1
    if len(everybody) > 1:
        groups = [len(group) for group in batch_requests(model, requests[:-1], FEW, 8)]
        assert groups == [1, 3, 1] or model.max_context_photos == 1
        assert min(furthest(together[0], image) for image in together[1:4]) > 0


def test_other_shapes_are_drawn(model: Any) -> None:
    wide = next(size for size in native_sizes(model) if size.width > size.height)
    assert draw(model, Request(None, PROMPT, 1), hires=HiresConfig(wide.width, wide.height))[0].shape == (
        wide.height,
        wide.width,
        3,
    )


@pytest.mark.slow
def test_the_names_of_parts_are_those_of_the_pipeline(model: Any, tmp_path: Path) -> None:
    """What diffusers writes is what the family reads."""
    model.pipeline.save_pretrained(tmp_path / "again")
    again = load_toy(tmp_path / "again")
    assert again.name.partition("@")[2] == model.name.partition("@")[2]
    assert np.array_equal(draw(again, Request(None, PROMPT, 0))[0], draw(model, Request(None, PROMPT, 0))[0])
