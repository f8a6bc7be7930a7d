"""The networks compiled by OpenVINO: the same images as torch's, to a stated tolerance, and only where they are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fresh import Fresh
from tenth.core.errors import InputError, ModelError
from tenth.core.optional_packages import openvino_core
from tenth.core.types import Identity
from tenth.models import compiled
from tenth.models.compiled import CompiledNetworks, choose_backend
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from toy_drawing import PROMPT, random_identity

FLOAT32 = SamplingConfig(steps=3, precision="fp32")
BFLOAT16 = replace(FLOAT32, precision="bf16")
TOLERANCE = {"fp32": 1, "bf16": 12}  # of 255, in any pixel


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


Load = Callable[[str], LatentDiffusion]


@pytest.fixture
def load(toy_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """The toy of the pocket model's layout, on a backend."""
    monkeypatch.setenv("TENTH_CACHE_DIR", str(cache))
    return lambda backend: load_model(str(toy_folder), options=LoadOptions(backend=backend))


@pytest.fixture(scope="module")
def pair(toy_folder: Path, cache: Path) -> Iterator[tuple[LatentDiffusion, LatentDiffusion]]:
    """The toy on torch and compiled, for tests that change neither: what is compiled for one shape serves all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENTH_CACHE_DIR", str(cache))
        patch.setattr(compiled, "MAX_COMPILED", 100)
        torch_model, fast = (load_model(str(toy_folder), options=LoadOptions(backend=name)) for name in ("torch", "openvino"))
        yield torch_model, fast


def images(model: LatentDiffusion, sampling: SamplingConfig, *people: Identity | None) -> list[np.ndarray]:
    requests = [Request(person, PROMPT, 5 + number) for number, person in enumerate(people)]
    return [sample.pixels.astype(int) for sample in generate(model, requests, sampling)]


def apart(one: list[np.ndarray], other: list[np.ndarray]) -> int:
    return max(int(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"guidance_scale": 1.0},
        {"text_guidance_scale": 2.0, "negative_prompt": "a hat"},
        {"guidance_interval": (0.0, 0.5)},
        {"ip_adapter_scale": 0.3},
        {"ip_adapter_scale": 0.0},
        {"ip_adapter_scale": {"up": 1.0}},
    ],
    ids=str,
)
def test_images_are_those_of_torch(pair: tuple[LatentDiffusion, LatentDiffusion], change: dict[str, Any]) -> None:
    torch_model, fast = pair
    for person in (None, random_identity(torch_model), random_identity(torch_model, 1, num_rows=3)):
        for sampling in (replace(FLOAT32, **change), replace(BFLOAT16, **change)):
            expected = images(torch_model, replace(sampling, precision="fp32"), person)
            assert apart(images(fast, sampling, person), expected) <= TOLERANCE[sampling.precision]
            assert fast.pipeline.unet.attn_processors.keys() == torch_model.pipeline.unet.attn_processors.keys()


def test_the_person_is_seen_and_two_people_do_not_mix(pair: tuple[LatentDiffusion, LatentDiffusion]) -> None:
    _, fast = pair
    people = [random_identity(fast, seed) for seed in (1, 2)]
    both = images(fast, FLOAT32, *people)
    alone = [next(generate(fast, [Request(each, PROMPT, 5 + number)], FLOAT32)).pixels.astype(int) for number, each in enumerate(people)]  # fmt: skip # noqa: E501
    assert apart(both, alone) <= 1
    assert apart(images(fast, FLOAT32, people[0]), images(fast, FLOAT32, people[1])) > 1
    assert apart(images(fast, FLOAT32, people[0]), images(fast, FLOAT32, None)) > 1


def test_a_seed_is_one_image_and_the_image_says_its_backend(pair: tuple[LatentDiffusion, LatentDiffusion]) -> None:
    torch_model, fast = pair
    person = random_identity(torch_model)
    one, again = (next(generate(fast, [Request(person, PROMPT, 1)], FLOAT32)) for _ in range(2))
    assert np.array_equal(one.pixels, again.pixels)
    assert one.settings["backend"] == "openvino-fp32"
    bf16 = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    automatic = next(generate(fast, [Request(person, PROMPT, 1)], SamplingConfig(steps=1)))
    assert automatic.settings["backend"] == ("openvino-bf16" if bf16 else "openvino-fp32")
    assert next(generate(torch_model, [Request(person, PROMPT, 1)], FLOAT32)).settings["backend"] == "torch"


def test_weights_of_a_person_are_on_torch(load: Load) -> None:
    torch_model, fast = load("torch"), load("openvino")
    change = torch.full_like(torch_model.pipeline.unet.conv_in.weight, 0.5)
    tuned = Identity("dreambooth", fast.name, "", "", weights={"unet.conv_in.weight.diff": change}, trigger_phrase="sks man")
    plain = images(fast, FLOAT32, None)
    (sample,) = generate(fast, [Request(tuned, PROMPT, 5)], FLOAT32)
    (expected,) = generate(torch_model, [Request(tuned, PROMPT, 5)], FLOAT32)
    assert np.array_equal(sample.pixels, expected.pixels)
    assert sample.settings["backend"] == "torch"
    assert apart(plain, [expected.pixels.astype(int)]) > 1
    assert apart(images(fast, FLOAT32, None), plain) == 0  # and compiled again without them


@pytest.mark.slow
def test_a_model_in_training_is_on_torch(load: Load) -> None:
    fast = load("openvino")
    plain = images(fast, FLOAT32, None)
    fast.pipeline.unet.train()
    with torch.no_grad():
        fast.pipeline.unet.conv_in.bias += 1
    assert apart(images(fast, FLOAT32, None), plain) > 1
    with torch.no_grad():
        fast.pipeline.unet.conv_in.bias -= 1


@pytest.mark.slow
def test_networks_are_converted_once_and_again_where_damaged(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    converted: list[object] = []
    convert = compiled.convert
    monkeypatch.setattr(compiled, "convert", lambda *given: converted.append(given) or convert(*given))
    first = images(load("openvino"), FLOAT32, None)
    assert len(converted) == 2  # UNet and decoder
    assert apart(images(load("openvino"), FLOAT32, None), first) == 0
    assert len(converted) == 2

    for file in tmp_path.rglob("network.bin"):
        file.write_bytes(file.read_bytes()[:100])
    for file in tmp_path.rglob("network.xml"):
        file.write_text("not a network")
    assert apart(images(load("openvino"), FLOAT32, None), first) == 0
    assert len(converted) == 4


def test_without_room_for_the_cache_it_goes_on(load: Load, toy_folder: Path, tmp_path: Path) -> None:
    model = load("torch")
    (tmp_path / "file").write_text("no folder")
    networks = CompiledNetworks(model.pipeline, model.name, tmp_path / "file")
    latents = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(networks.decode("fp32", latents), model.decode(latents), rtol=0, atol=1e-4)


def test_the_backend_is_chosen_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("", "cpu", small=True) == "openvino"
    assert choose_backend("", "cpu", small=False) == choose_backend("", "cuda", small=True) == "torch"
    assert choose_backend("openvino", "cpu", small=False) == "openvino"
    with pytest.raises(InputError, match="'openvin' is not a backend"):
        choose_backend("openvin", "cpu", small=True)
    with pytest.raises(ModelError, match="the backend openvino on cuda"):
        choose_backend("openvino", "cuda", small=True)
    monkeypatch.setattr(compiled, "is_available", lambda: False)
    assert choose_backend("", "cpu", small=True) == "torch"
    with pytest.raises(ModelError, match="OpenVINO is not installed"):
        choose_backend("openvino", "cpu", small=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stable_diffusion_s_layouts_are_compiled_too(stable_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:  # fmt: skip # noqa: E501
    monkeypatch.setenv("TENTH_CACHE_DIR", str(cache))
    plain, fast = (load_model(str(stable_folder), options=LoadOptions(backend=backend)) for backend in ("torch", "openvino"))
    person = random_identity(plain, num_rows=2)
    expected = images(plain, FLOAT32, person, None)
    assert apart(images(fast, replace(FLOAT32, precision=precision), person, None), expected) <= TOLERANCE[precision]


INTERRUPTED = """
import signal
from pathlib import Path
from tenth.models.compiled import CompiledNetworks

networks = [CompiledNetworks(None, name, Path()) for name in "ab"]
assert {each.precision("auto") for each in networks} <= {"bf16", "fp32"}
del networks[0], networks[0]
signal.signal(signal.SIGINT, lambda *_: print("heard"))
signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_is_heard_when_compiled_models_are_gone(fresh: Fresh, tmp_path: Path) -> None:
    """Where each had a Core of its own, signals were left with a stack that was gone, and the process ended."""
    done = fresh.loaded.python(INTERRUPTED, at=tmp_path)
    assert (done.code, done.out) == (0, "heard\n"), done.err


def test_openvino_reports_nothing_to_its_makers(tmp_path: Path) -> None:
    """On import it would write an id into the home folder, and send it with each use."""
    code = "from tenth.core.optional_packages import import_openvino; import_openvino().Core(); import sys; print(sys.modules['openvino_telemetry'])"  # noqa: E501
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
    assert not list(tmp_path.iterdir())
