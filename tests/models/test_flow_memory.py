"""Transformers in little memory: what is estimated before loading, which profile is taken, and that it draws the same.

There is no GPU where these tests run. "cpu:0" stands in for one: to the planner it is a device that is not the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel, QwenImageTransformer2DModel, ZImageTransformer2DModel
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from tenth.core.errors import ModelError
from tenth.core.types import Identity
from tenth.models.families import loader
from tenth.models.families.loader import load_flow_model, read_family_footprint
from tenth.models.families.registry import FAMILIES
from tenth.models.hub.published import PUBLISHED
from tenth.models.memory import planner
from tenth.models.memory.flow_footprint import compute_flow_footprint, text_activations
from tenth.models.memory.footprint import WeightCounts
from tenth.models.memory.half_precision import HalfStorageLinear, is_castable
from tenth.models.memory.planner import LoadOptions, MemoryPlan, next_profile, plan_memory
from tenth.models.memory.profiles import FLOW_CPU_PROFILES, FLOW_GPU_PROFILES, MemoryProfile
from tenth.models.memory.quantized import QuantizedLinear, is_quantizable
from tenth.models.memory.recommendation import FLOW_FOOTPRINTS, flow_plans
from tenth.models.memory.system import AvailableMemory
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from toy_families import toy_family

GB = 1_000_000_000
STAND_IN = "cpu:0"  # for a GPU
KLEIN = FLOW_FOOTPRINTS["flux2-klein-4b"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy whose files are in bfloat16, as the published ones."""
    folder = toy_family("flux2-klein", tmp_path_factory.mktemp("toy") / "klein")
    for path in folder.rglob("*.safetensors"):
        tensors = {name: value.bfloat16() if value.is_floating_point() else value for name, value in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    return folder


def drawn(
    model: Any, prompts: tuple[str, ...] = ("a photo of a person", "a smile"), person: Identity | None = None
) -> np.ndarray:
    requests = [Request(person, prompt, seed) for seed, prompt in enumerate(prompts)]
    return np.stack([sample.pixels.astype(int) for sample in generate(model, requests, SamplingConfig(steps=2))])


def on(folder: Path, profile: str) -> Any:
    return load_flow_model(folder, LoadOptions("cpu", profile))


@pytest.fixture(scope="module")
def whole(toy: Path) -> np.ndarray:
    return drawn(on(toy, "float32"))


# The most that a value of 255 changes; how far images of random weights are apart says nothing of trained ones.
NEAR = {"half": 1, "half-batch1": 1, "half-vae-tiling": 255, "half-text-freed": 255, "int8": 255, "nf4": 255, "mapped": 255}


@pytest.mark.parametrize("profile", NEAR)
def test_every_profile_of_a_cpu_draws(profile: str, toy: Path, whole: np.ndarray) -> None:
    model = on(toy, profile)
    assert model.memory_plan.profile.name == profile
    assert model.dtype == torch.float32
    found = drawn(model)
    assert np.abs(found - whole).max() <= NEAR[profile]
    assert np.array_equal(found, drawn(model))
    assert (model.pipeline.text_encoder.device.type == "meta") == model.memory_plan.profile.frees_text_encoder


def test_a_freed_text_encoder_gives_the_same_embeddings(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = on(toy, "half-text-freed"), on(toy, "half-vae-tiling")
    loaded = []
    monkeypatch.setattr(
        model.text_encoders, "load", lambda name, load=model.text_encoders.load: loaded.append(name) or load(name)
    )
    assert np.array_equal(drawn(model), drawn(other))
    assert loaded == ["text_encoder"] * 2  # one image at a time, and each has a prompt of its own
    drawn(model)
    assert len(loaded) == 2  # the embeddings are kept


def test_weights_are_stored_as_the_profile_says(toy: Path) -> None:
    half, eight, four = (on(toy, name).pipeline.transformer for name in ("half", "int8", "nf4"))
    for network, kind in ((half, HalfStorageLinear), (eight, QuantizedLinear), (four, QuantizedLinear)):
        assert isinstance(network.transformer_blocks[0].attn.to_q, kind)
        assert isinstance(network.double_stream_modulation_img.linear, HalfStorageLinear)
        assert network.x_embedder.weight.dtype == torch.float32
    assert half.transformer_blocks[0].attn.to_q.weight.dtype == torch.bfloat16
    assert (eight.transformer_blocks[0].attn.to_q.bits, four.transformer_blocks[0].attn.to_q.bits) == (8, 4)
    text = on(toy, "half").pipeline.text_encoder
    assert text.lm_head.weight is text.model.embed_tokens.weight
    assert text.dtype == torch.float32  # the type in which its embeddings come


@pytest.mark.parametrize("profile", ["float32", "half"])  # a toy's rows are too short for what scales take of a large one
def test_weights_in_memory_are_those_expected(profile: str, toy: Path) -> None:
    model, footprint = on(toy, profile), read_family_footprint(toy, FAMILIES["flux2-klein"])
    counted, held = footprint.required_bytes(model.memory_plan.profile, LoadOptions(image_size=16, batch_size=1)), 0
    for name in ("transformer", "vae", "text_encoder"):
        held += sum(value.nbytes for value in getattr(model.pipeline, name).parameters())
    activations = footprint.activation_bytes(model.memory_plan.profile, LoadOptions(image_size=16, batch_size=1))
    pages = 0 if profile == "float32" else 2 * sum(part.others for part in footprint.parts.values())
    assert counted - max(activations.values()) - pages == pytest.approx(held, rel=0.05)


def test_the_parts_of_the_toy_are_counted(toy: Path) -> None:
    footprint, model = read_family_footprint(toy, FAMILIES["flux2-klein"]), on(toy, "float32")
    for name, part in footprint.parts.items():
        network = getattr(model.pipeline, name)
        statistics = sum(value.numel() for key, value in network.named_buffers() if "running" in key)  # the autoencoder's
        assert part.total == sum(value.numel() for value in network.parameters()) + statistics
    assert (footprint.token_pixels, footprint.rows, footprint.image_size) == (16, 1, 1024)
    assert footprint.parts["transformer"].quantizable == sum(
        value.numel() for name, value in model.pipeline.transformer.named_parameters() if "blocks" in name and value.ndim == 2
    )
    assert footprint.parts["transformer"].largest_block == sum(
        value.numel() for value in model.pipeline.transformer.transformer_blocks[0].parameters()
    )


def stand_in(folder: Path, profile: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model as a GPU would hold it, on a device that is not "cpu"."""
    (row,) = (each for each in FLOW_GPU_PROFILES if each.name == profile)
    plan = MemoryPlan(row, STAND_IN, "bfloat16", small=False, profiles=FLOW_GPU_PROFILES)
    monkeypatch.setattr(loader, "plan_memory", lambda *_: plan)
    return load_flow_model(folder)


@pytest.mark.parametrize("profile", [profile.name for profile in FLOW_GPU_PROFILES[1:]])
def test_every_profile_of_a_gpu_draws(profile: str, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stand_in(toy, profile, monkeypatch)
    found = drawn(model)
    assert found.shape == (2, 64, 64, 3)
    assert found.std() > 1
    assert model.dtype == torch.bfloat16
    assert np.array_equal(found, drawn(model))


@pytest.mark.parametrize("profile", ["float8", "group-offload"])
def test_weights_of_a_person_are_not_lost_in_a_profile_that_cannot_take_them(
    profile: str, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stand_in(toy, profile, monkeypatch)
    weights = {"transformer.x_embedder.weight.diff": torch.zeros(32, 16)}
    person = Identity("dreambooth", model.name, "", "", None, weights=weights)
    with pytest.raises(ModelError, match=f"own weights with the memory profile {profile}; .*TENTH_MEMORY_PROFILE=int8"):
        drawn(model, person=person)


def test_a_gpu_that_ran_out_of_memory_goes_down_all_profiles(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stand_in(toy, "half", monkeypatch)
    names = ["half"]
    while model.memory_plan.profile is not FLOW_GPU_PROFILES[-1]:
        model.reduce_memory()
        names.append(model.memory_plan.profile.name)
        assert drawn(model, ("a person",)).std() > 1
    assert names == [profile.name for profile in FLOW_GPU_PROFILES[1:]]
    with pytest.raises(ModelError, match="ran out of memory with the last memory profile, group-offload"):
        model.reduce_memory()
    cpu = MemoryPlan(FLOW_CPU_PROFILES[-1], small=False, profiles=FLOW_CPU_PROFILES)
    with pytest.raises(ModelError, match="the last memory profile, mapped"):
        next_profile(cpu)


# (use, machine) -> (device, profile), from estimates of the sizes above.
DECISIONS: dict[str, tuple[LoadOptions, AvailableMemory, tuple[str, str]]] = {
    "much": (LoadOptions(), AvailableMemory(80 * GB), ("cpu", "float32")),
    "half fits": (LoadOptions(batch_size=1), AvailableMemory(22 * GB), ("cpu", "half")),
    "small images": (LoadOptions(batch_size=1, image_size=256), AvailableMemory(19 * GB), ("cpu", "half")),
    "8 bits": (LoadOptions(batch_size=1), AvailableMemory(14 * GB), ("cpu", "int8")),
    "4 bits": (LoadOptions(batch_size=1), AvailableMemory(9 * GB), ("cpu", "nf4")),
    "little": (LoadOptions(batch_size=1), AvailableMemory(5 * GB), ("cpu", "mapped")),
    "a card of 24 GB": (LoadOptions(), AvailableMemory(32 * GB, 24 * GB, (8, 9)), ("cuda", "half")),
    "a card of 16 GB": (LoadOptions(), AvailableMemory(32 * GB, 15 * GB, (8, 9)), ("cuda", "half-text-freed")),
    "a card of 8 GB": (LoadOptions(), AvailableMemory(32 * GB, int(7.5 * GB), (8, 9)), ("cuda", "float8")),
    "a card of 6 GB": (LoadOptions(), AvailableMemory(32 * GB, int(5.5 * GB), (8, 9)), ("cuda", "nf4")),
    "a card of 4 GB": (LoadOptions(), AvailableMemory(32 * GB, int(3.8 * GB), (8, 9)), ("cuda", "group-offload")),
    "training": (LoadOptions(full_precision=True), AvailableMemory(80 * GB, 80 * GB), ("cuda", "float32")),
    "training on a card of 12 GB": (
        LoadOptions(full_precision=True),
        AvailableMemory(32 * GB, 11 * GB),
        ("cuda", "half-text-freed"),
    ),
    "training on a card of 8 GB": (LoadOptions(full_precision=True), AvailableMemory(32 * GB, int(7.5 * GB)), ("cuda", "int8")),
}


@pytest.mark.parametrize("case", DECISIONS)
def test_the_first_profile_that_fits(case: str) -> None:
    use, machine, expected = DECISIONS[case]
    plan = plan_memory(KLEIN, use, machine)
    assert (plan.device, plan.profile.name) == expected
    assert plan.message.endswith(f"; {plan.profile.name}: {plan.profile.cost}")
    assert "\n" not in plan.message


@pytest.mark.parametrize(("profiles", "device"), [(FLOW_CPU_PROFILES, "cpu"), (FLOW_GPU_PROFILES, "cuda")])
def test_every_profile_needs_no_more_than_the_one_before(profiles: tuple[MemoryProfile, ...], device: str) -> None:
    needs = [KLEIN.required_bytes(profile, LoadOptions(), device) for profile in profiles]
    assert needs == sorted(needs, reverse=True)
    assert needs[-1] < needs[0] / 8


def published_networks() -> dict[str, Any]:
    """Networks of the published sizes, without memory. Source: the models' config.json."""
    with torch.device("meta"):
        qwen3 = Qwen3Config(
            vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
            num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
        )  # fmt: skip
        klein = Flux2Transformer2DModel(
            num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
        )
        return {
            "flux2-klein-4b": (klein, Qwen3ForCausalLM(qwen3)),
            "z-image": (ZImageTransformer2DModel(), None),
            "qwen-image-edit": (QwenImageTransformer2DModel(zero_cond_t=True), None),
        }


def test_the_sizes_of_the_published_models() -> None:
    for name, networks in published_networks().items():
        for part, network in zip(("transformer", "text_encoder"), networks, strict=True):
            if network is not None:
                values, counts = dict(network.named_parameters()), FLOW_FOOTPRINTS[name].parts[part]
                castable = [value.numel() for key, value in values.items() if is_castable(key, value.shape)]
                assert counts.total == sum(value.numel() for value in values.values())
                assert (counts.castable, counts.largest) == (sum(castable), max(castable))
                assert counts.quantizable == sum(
                    value.numel() for key, value in values.items() if is_quantizable(key, value.shape)
                )
    assert FLOW_FOOTPRINTS.keys() <= PUBLISHED.keys()


def test_how_the_published_models_are_held() -> None:
    held = {
        gpu: [plan and plan.profile.name for plan in flow_plans(AvailableMemory(64 * GB, gpu * GB, (8, 9))).values()]
        for gpu in (6, 12, 16, 24, 48, 80)
    }
    assert held[80] == ["half", "half", "half"]
    assert held[24] == ["half", "half", "float8"]
    assert held[12] == ["half-text-freed", "float8", "group-offload"]
    assert flow_plans(AvailableMemory(2 * GB)) == dict.fromkeys(FLOW_FOOTPRINTS)


def test_what_does_not_fit_is_refused_before_a_weight_is_read(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "SMALL_MODEL_WEIGHTS", 0)
    monkeypatch.setattr(loader, "available_memory", lambda: AvailableMemory(1_000_000))
    monkeypatch.setattr(loader, "load_family_pipeline", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ModelError, match=r"are needed \(mapped\)\. Close other programs"):
        load_flow_model(toy)


def test_what_cannot_be_trained_is_refused() -> None:
    for name in ("float8", "group-offload"):
        with pytest.raises(ModelError, match=f"the memory profile {name} is not float32 or half or int8 or nf4; training"):
            plan_memory(KLEIN, LoadOptions(profile=name, full_precision=True), AvailableMemory(80 * GB, 80 * GB))


def test_photos_in_context_and_guidance_take_memory() -> None:
    profile = FLOW_CPU_PROFILES[3]
    plain, four = (
        KLEIN.activation_bytes(profile, LoadOptions(batch_size=1, context_photos=count))["transformer"] for count in (0, 4)
    )
    copy = 4 * KLEIN.parts["transformer"].largest
    assert (four - copy) / (plain - copy) == pytest.approx((512 + 5 * 64**2) / (512 + 64**2))
    encoded = KLEIN.activation_bytes(profile, LoadOptions(image_size=256, context_photos=1))["vae"]
    assert encoded == pytest.approx(4 * 256**2 * 768)


def test_the_configurations_of_other_families() -> None:
    parts = {"transformer": WeightCounts(1), "vae": WeightCounts(1)}
    qwen = {
        "transformer": {"num_attention_heads": 24, "attention_head_dim": 128},
        "vae": {"base_dim": 96, "dim_mult": [1, 2, 4, 4]},
    }
    found = compute_flow_footprint(qwen, parts, 1024, token_widths=16)
    assert (found.token_activations, found.vae_activations, found.token_pixels) == (16 * 3072, 18 * 96, 16)
    image = {"transformer": {"dim": 3840}, "vae": {"block_out_channels": [128, 256, 512, 512]}}
    found = compute_flow_footprint(image, parts, 1024)
    assert (found.token_activations, found.vae_activations, found.token_pixels) == (22 * 3840, 768, 16)
    inner = {"hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944, "vocab_size": 152064}
    seen = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "text_config": inner}
    assert text_activations(seen) == 29 * 3584 + 152064
    for broken in ({}, {"dim": "wide"}, {"dim": 0}):
        with pytest.raises((LookupError, ValueError)):
            compute_flow_footprint(image | {"transformer": broken}, parts, 1024)
