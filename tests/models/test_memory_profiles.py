"""Memory profiles: images stay the same, and a full GPU costs a profile, not the run.

There is no GPU where these tests run. "cpu:0" stands in for one: to the planner it is a device that is not the CPU.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tenth.cli import main as cli
from tenth.core.errors import ModelError
from tenth.core.files.png_metadata import read_sample
from tenth.core.types import Person, Photo
from tenth.methods.registry import method
from tenth.models import stable_diffusion as stable
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory import planner as memory
from tenth.models.memory.footprint import ModelFootprint, read_footprint
from tenth.models.memory.half_precision import HalfStorageConv2d, is_castable, store_in_half
from tenth.models.memory.planner import LoadOptions, MemoryPlan
from tenth.models.memory.profiles import CPU_PROFILES, GPU_PROFILES
from tenth.models.memory.system import AvailableMemory
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import load_model
from tenth.models.stable_diffusion import load_stable_diffusion
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.training.frozen_diffusion import frozen_diffusion

STAND_IN = "cpu:0"  # for a GPU


def sizes_at(folder: Path) -> ModelFootprint:
    return read_footprint(folder, folder / "image_encoder", folder / "ip-adapter/ip-adapter.safetensors")


def person() -> Person:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 60, 3), dtype=np.uint8)
    return Person("anna", tuple(Photo(picture, f"{number:064x}") for number, picture in enumerate(pixels)))


def drawn(model: LatentDiffusion, count: int = 2, name: str = "ip-adapter-consensus") -> list[Any]:
    identity = method(name)(person(), model).identity
    return list(
        generate(model, [Request(identity, "a photo of a person", seed) for seed in range(count)], SamplingConfig(steps=2))
    )


def difference(one: list[Any], other: list[Any]) -> int:
    pairs = zip(one, other, strict=True)
    return max(int(np.abs(a.pixels.astype(int) - b.pixels.astype(int)).max()) for a, b in pairs)


def on(folder: Path, profile: str) -> LatentDiffusion:
    return load_stable_diffusion(folder, options=LoadOptions("cpu", profile))


@pytest.fixture(scope="session")
def halved_folder(stable_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as published half-size files."""
    folder = tmp_path_factory.mktemp("halved") / "model"
    for path in stable_folder.rglob("*"):
        target = folder / path.relative_to(stable_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file({name: value.half() for name, value in load_file(path).items()}, target, metadata={"format": "pt"})
        elif path.is_file():
            target.write_bytes(path.read_bytes())
    return folder


def test_small_models_stay_as_they_were(stable_folder: Path) -> None:
    said: list[str] = []
    model = load_stable_diffusion(stable_folder, on_message=said.append)
    assert (model.memory_plan.profile, model.memory_plan.device, said) == (CPU_PROFILES[0], "cpu", [])
    assert "memory_profile" not in drawn(model, 1)[0].settings


def test_counts_are_those_of_the_loaded_parts(stable_folder: Path) -> None:
    sizes, model = sizes_at(stable_folder), load_stable_diffusion(stable_folder)
    modules = {"image_encoder": model.encoder.model, **{name: getattr(model.pipeline, name, None) for name in sizes.parts}}
    for name, module in modules.items():
        if isinstance(module, torch.nn.Module):
            assert sizes.parts[name].total == sum(value.numel() for value in module.parameters())
    assert sizes.parts["ip-adapter"].total == sum(
        value.numel() for part in model.adapter_parts.values() for value in part.values()
    )
    assert (sizes.image_size, sizes.vae_scale_factor) == (16, 2)


def test_weights_in_memory_are_those_expected(halved_folder: Path) -> None:
    model, sizes = on(halved_folder, "half"), sizes_at(halved_folder)
    parts = [getattr(model.pipeline, name, None) for name in ("unet", "vae", "text_encoder", "text_encoder_2")]
    modules = [part for part in [*parts, model.encoder.model] if part is not None]
    held = sum(value.nbytes for module in modules for value in module.parameters())
    adapter = replace(sizes, parts={"ip-adapter": sizes.parts["ip-adapter"]})
    assert held == pytest.approx(
        sizes.weight_bytes(CPU_PROFILES[1]) - adapter.weight_bytes(CPU_PROFILES[1]), rel=0.03
    )  # biases of layers are narrow too


WHOLE = {
    "half": "float32",
    "half-batch1": "float32",
    "mapped": "half-vae-tiling",
}  # as precise, and decoded as the profile decodes


@pytest.mark.parametrize("profile", WHOLE)
def test_half_size_files_give_the_images_of_float32(profile: str, halved_folder: Path) -> None:
    whole, narrower = drawn(on(halved_folder, WHOLE[profile])), drawn(on(halved_folder, profile))
    assert difference(whole, narrower) <= 1
    assert narrower[0].settings["memory_profile"] == profile


def test_float32_files_in_16_bits_give_images_near_by(stable_folder: Path) -> None:
    whole, narrower = on(stable_folder, "float32"), on(stable_folder, "half")
    assert narrower.pipeline.unet.dtype == torch.float32
    assert narrower.pipeline.unet.mid_block.resnets[0].conv1.weight.dtype == torch.float16
    assert 0 <= difference(drawn(whole), drawn(narrower)) <= 4


def test_tiles_and_trained_adapters_draw(halved_folder: Path) -> None:
    model = on(halved_folder, "half-vae-tiling")
    assert model.pipeline.vae.use_tiling
    assert model.pipeline.vae.use_slicing
    whole = drawn(on(halved_folder, "float32"))
    tiled = drawn(model)
    assert tiled[0].pixels.shape == whole[0].pixels.shape
    assert tiled[0].pixels.std() > 1


def test_mapped_weights_lie_in_the_file(halved_folder: Path, stable_folder: Path) -> None:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("this system does not say what is mapped")
    for folder in (halved_folder, stable_folder):
        model = on(folder, "mapped")
        parts = [getattr(model.pipeline, name, None) for name in ("unet", "text_encoder", "text_encoder_2")]
        with model.applied([method("ip-adapter-avg")(person(), model).identity]):
            matrices = {
                f"{number}.{name}": value
                for number, part in enumerate([*parts, model.encoder.model])
                for name, value in (part.named_parameters() if part is not None else ())
                if is_castable(name, list(value.shape)) and "encoder_hid_proj" not in name
            }
            assert sum("to_k_ip" in name for name in matrices) == len(model.adapter_parts["ip_adapter"]) / 2
            spans = [line.split()[0].split("-") for line in maps.read_text().splitlines() if str(folder) in line]
            inside = [(int(low, 16), int(high, 16)) for low, high in spans]
            copied = [
                name for name, value in matrices.items() if not any(low <= value.data_ptr() < high for low, high in inside)
            ]
            assert not copied


def test_a_number_too_large_for_float16_becomes_bfloat16() -> None:
    layer = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1))
    layer[0].weight.data.fill_(1e5)
    store_in_half(layer)
    assert isinstance(layer[0], HalfStorageConv2d)
    assert layer[0].weight.dtype == torch.bfloat16
    assert torch.isfinite(layer(torch.ones(1, 2, 3, 3))).all()


def test_nothing_learns_from_narrow_layers(stable_folder: Path) -> None:
    pipeline = on(stable_folder, "half").pipeline
    with pytest.raises(ModelError, match="need all weights in float32"), frozen_diffusion(pipeline):
        pytest.fail("it was frozen")


def test_what_does_not_fit_is_refused_before_a_weight_is_read(stable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL_MODEL_WEIGHTS", 0)
    monkeypatch.setattr(stable, "available_memory", lambda: AvailableMemory(1_000_000))
    monkeypatch.setattr(stable, "load_pipeline", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ModelError, match="Close other programs"):
        load_stable_diffusion(stable_folder)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, half: str = "bfloat16", profile: int = 1) -> LatentDiffusion:
    """A model as a GPU would hold it, on a device that is not "cpu"."""
    monkeypatch.setattr(stable, "plan_memory", lambda *_: MemoryPlan(GPU_PROFILES[profile], STAND_IN, half, small=False))
    return load_stable_diffusion(folder)


@pytest.mark.slow
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_gpu_s_16_bits_draw_nearly_the_same(half: str, stable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(load_stable_diffusion(stable_folder))
    model = stand_in(stable_folder, monkeypatch, half)
    assert {part.dtype for part in (model.pipeline.unet, model.pipeline.vae, model.encoder.model)} == {getattr(torch, half)}
    assert difference(whole, drawn(model)) <= 24


def full(model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch, when: Callable[[int], bool]) -> list[int]:
    """The UNet runs out of memory when `when` says so of a batch. Gives the batches that it was asked for."""
    asked, forward = [], model.pipeline.unet.forward

    def failing(sample: torch.Tensor, *args: Any, **rest: Any) -> Any:
        asked.append(len(sample))
        if when(len(sample)):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(sample, *args, **rest)

    monkeypatch.setattr(model.pipeline.unet, "forward", failing)
    return asked


def test_out_of_memory_takes_the_next_profile_and_draws_the_same(stable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stand_in(stable_folder, monkeypatch)
    expected = [sample for seed in range(3) for sample in drawn(model, 3)[seed : seed + 1]]
    asked = full(model, monkeypatch, lambda batch: batch > 2)  # with guidance: more than one image
    steps: list[int] = []
    identity = method("ip-adapter-consensus")(person(), model).identity
    requests = [Request(identity, "a photo of a person", seed) for seed in range(3)]
    samples = list(generate(model, requests, SamplingConfig(steps=2), on_progress=lambda now: steps.append(now.done)))
    assert asked == [6] + [2] * 6
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [sample.settings["memory_profile"] for sample in samples] == ["half-batch1"] * 3
    assert difference(expected, samples) <= 8  # bfloat16, alone against a batch of three
    assert difference(samples, drawn(model, 3)) == 0


def test_out_of_memory_with_the_last_profile_says_so(stable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = load_stable_diffusion(stable_folder, options=LoadOptions(backend="torch"))
    model = stand_in(stable_folder, monkeypatch, profile=len(GPU_PROFILES) - 2)
    full(model, monkeypatch, lambda _: True)
    monkeypatch.setattr("tenth.models.latent_diffusion.apply_memory_plan", lambda *_: None)
    with pytest.raises(
        ModelError, match=r"cpu:0 ran out of memory with the last memory profile, cpu-offload; more memory is needed\. Close"
    ):
        drawn(model, 1)
    full(small, monkeypatch, lambda _: True)
    with pytest.raises(ModelError, match="ran out of memory with the last memory profile, float32"):
        drawn(small, 1)


def test_off_loaded_layers_draw_the_same(stable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, offload = torch.device("cpu"), accelerate.cpu_offload  # a tensor is never on "cpu:0", which confuses the hooks
    monkeypatch.setattr(accelerate, "cpu_offload", lambda module, _, **rest: offload(module, there, **rest))
    tiled = drawn(stand_in(stable_folder, monkeypatch, profile=3))
    model = stand_in(stable_folder, monkeypatch, profile=4)
    assert next(model.pipeline.unet.parameters()).device.type == "meta"
    assert difference(tiled, drawn(model)) <= 8  # the image encoder is on the CPU, which multiplies in float32


def test_the_command_says_and_records_the_profile(
    stable_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENTH_MEMORY_PROFILE", "half")
    out = tmp_path / "out"
    given = ["--prompt", "a photo of a person", "--model", str(stable_folder), "-n", "1", "--steps", "1", "-o", str(out)]
    assert cli.main(["generate", str(EXAMPLE_PHOTOS_DIR), *given]) == 0
    assert capsys.readouterr().err.count("memory on cpu: needs about ") == 1
    where = {"device": "cpu", "memory_profile": "half"}
    assert where.items() <= read_sample(out / "0000.png").items()
    assert json.loads((out / "run.json").read_text())["results"]["memory_profiles"] == [where]


def test_the_environment_chooses_a_device_too(monkeypatch: pytest.MonkeyPatch, stable_folder: Path) -> None:
    monkeypatch.setenv("TENTH_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("pocket", str(stable_folder)):
        with pytest.raises(ModelError, match="torch finds no GPU here"):
            load_model(name)


def test_another_kind_of_model_is_said_first(stable_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(stable_folder, tmp_path / "model"))
    (copy / "unet" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config\.json cannot be read: 'block_out_channels'"):
        load_stable_diffusion(copy)
    (copy / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match="is a FluxPipeline"):
        load_stable_diffusion(copy)
