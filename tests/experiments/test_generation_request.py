"""One request: as a table and back, refused where it cannot be, and the same images from the library and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenth.cli.main import main
from tenth.core.config import from_table, to_table
from tenth.core.errors import DataError, TenthError
from tenth.experiments.generation.plan import plan_images
from tenth.experiments.generation.png_settings import PngSettings
from tenth.experiments.generation.request import ImageRequest, inherit
from tenth.experiments.generation.run import generate_images
from tenth.methods.identity_file import save_identity
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.hires import HiresConfig
from toy_drawing import PROMPT, random_identity

REQUEST = ImageRequest(
    (PROMPT, "a photo of a person with glasses"),
    num_images=2,
    seed=7,
    sampling=SamplingConfig(steps=1, negative_prompt="a hat", scheduler="euler", guidance_interval=(0.1, 1.0)),
)
REFUSED = [
    ({"prompts": []}, "one or more"),
    ({"prompts": ["a" * 30_000]}, "characters"),
    ({"num_images": 0}, "num_images"),
    ({"num_images": 3, "candidates": 2}, "at least the 3 kept"),
    ({"keep_all": True}, "it keeps what candidates draws"),
    ({"seed": -1}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"size": "wide"}, "wide"),
    ({"size": "100"}, "multiples of 8"),
    ({"strength": 2}, "strength"),
    ({"mask": "a.png"}, "it is for an image"),
    ({"image": "a.png", "mask": "b.png", "size": "64"}, "Leave out the size"),
    ({"image": "a.png", "strength": 0}, "0 would change nothing"),
    ({"sampling": {"steps": 0}}, "steps"),
    ({"sampling": {"stepps": 4}}, "steps"),
    ({"prompt": "a person"}, "prompts"),
]


def test_a_request_is_the_same_after_a_table() -> None:
    assert from_table(ImageRequest, to_table(REQUEST)) == REQUEST


@pytest.mark.parametrize(("wrong", "said"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_asked_for_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(TenthError) as refused:
        from_table(ImageRequest, {"prompts": [PROMPT]} | wrong, "the request")
    assert said in str(refused.value)


def test_a_strength_is_of_a_size_or_a_start_image() -> None:
    with pytest.raises(DataError, match="Give a size too"):
        plan_images(ImageRequest((PROMPT,), strength=0.5))


def test_images_are_planned_by_prompt_and_seed() -> None:
    plan = plan_images(REQUEST)
    assert [(image.request.prompt, image.request.seed) for image in plan.images] == [
        (prompt, seed) for prompt in REQUEST.prompts for seed in (7, 8)
    ]


def test_library_and_command_make_the_same_images(toy_folder: Path, tmp_path: Path) -> None:
    model = load_model(str(toy_folder))
    identity = random_identity(model)
    save_identity(identity, tmp_path / "me.safetensors")
    paths = generate_images(REQUEST, identity, tmp_path / "library", model)
    options = ["--prompt", REQUEST.prompts[0], "--prompt", REQUEST.prompts[1], "-n", "2", "--seed", "7", "--steps", "1"]
    options += ["--negative-prompt", "a hat", "--scheduler", "euler", "--guidance-interval", "0.1", "1"]
    where = ["--model", str(toy_folder), "-o", str(tmp_path / "command")]
    assert main(["generate", str(tmp_path / "me.safetensors"), *options, *where]) == 0
    assert [path.name for path in paths] == [f"000{number}.png" for number in range(4)]
    for path in paths:
        assert path.read_bytes() == (tmp_path / "command" / path.name).read_bytes()


def test_a_mask_has_the_size_of_its_image_whatever_the_settings_say() -> None:
    tall = PngSettings(Path("tall.png"), PROMPT, 3, SamplingConfig(), "", "", HiresConfig(512, 768))
    request, _ = inherit({"image": "photo.png", "mask": "mask.png"}, tall)
    assert (request.size, request.seed) == ("", 3)
    assert inherit({}, tall)[0].size == "512x768"
