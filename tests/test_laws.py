"""The laws of the house over every row of the catalog, on a model of the pocket's layout with random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tenth.core.errors import IdentityError
from tenth.core.types import Identity, Person, Photo
from tenth.data.faces.descriptors import encoder_name
from tenth.methods.dreambooth.data import DreamBoothSettings
from tenth.methods.dreambooth.defaults import default_settings
from tenth.methods.registry import METHODS
from tenth.models.pocket.loader import load_pocket
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, batch_requests, generate
from tenth.sampling.sampler import SamplingBatch, sample
from tenth.training.schedule import TrainingConfig
from toy_drawing import centred_noise

# Photos in context, which this model does not read, have them in methods/test_photos_in_context.py.
NAMES = [name for name, entry in METHODS.items() if not entry.value.keeps_photos]
FEW = SamplingConfig(steps=2, guidance_scale=3.0)
PROMPT = "a photo of a person"


class FakeEncoder:
    """Photos whose embedding stands in their digest: laws need no face."""

    name, embedding_dim, num_tokens = encoder_name(), 128, 0  # as trained aggregators expect it
    crops_faces, dlib_mean = False, None

    def null_embedding(self) -> Tensor:
        return torch.zeros(128)

    def __call__(self, photos: tuple[Photo, ...]) -> Tensor:
        rows = [torch.randn(128, generator=torch.Generator().manual_seed(int(photo.digest, 16))) for photo in photos]
        return torch.stack(rows)


@pytest.fixture
def model(toy_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The toy model, on which a person is learnt in three steps."""
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "store"))
    monkeypatch.setattr("tenth.methods.dreambooth.method.default_settings", in_three_steps)
    monkeypatch.setattr(toy_model, "encoder", FakeEncoder())
    return toy_model


def in_three_steps(name: str, model: Any, *, with_adapter: bool) -> DreamBoothSettings:
    shortened = replace(
        default_settings(name, model, with_adapter=with_adapter), num_class_images=2, sampling=SamplingConfig(steps=1)
    )
    return replace(
        shortened,
        schedule=TrainingConfig(total_images=6, batch_size=2, warmup_images=0, ema_halflife_images=2, learning_rate=1e-2),
    )


def person(*digests: str) -> Person:
    return Person("anna", tuple(Photo(np.zeros((1, 1, 3), np.uint8), digest) for digest in digests))


def weights_hash(model: Any) -> str:
    digest = hashlib.sha256()
    for part in (model.pipeline.unet, model.pipeline.text_encoder, model.pipeline.vae):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def modes(model: Any) -> list[bool]:
    """Whether each module is in training mode and each parameter requires gradients."""
    parts = (model.pipeline.unet, model.pipeline.text_encoder, model.pipeline.vae)
    found = [module.training for part in parts for module in part.modules()]
    return found + [parameter.requires_grad for part in parts for parameter in part.parameters()]


def draw(model: Any, *requests: Request, sampling: SamplingConfig = FEW) -> list[np.ndarray]:
    return [sample.pixels for sample in generate(model, requests, sampling)]


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_law_1_a_method_leaves_the_model_as_it_was(model: Any, name: str) -> None:
    before, modes_before = weights_hash(model), modes(model)
    identity = METHODS[name].value(person("1", "2", "3"), model).identity
    assert modes(model) == modes_before
    draw(model, Request(identity, PROMPT, 0))
    assert weights_hash(model) == before
    with model.applied([identity]):
        assert weights_hash(model) != before  # the adapter is on
    with pytest.raises(ZeroDivisionError), model.applied([identity]):
        _ = 1 / 0
    assert weights_hash(model) == before
    assert modes(model) == modes_before


def test_law_2_a_seed_is_one_image_whatever_the_batch(model: Any) -> None:
    anna = METHODS["ip-adapter-avg"].value(person("1", "2"), model).identity
    bert = METHODS["ip-adapter-avg"].value(person("7", "8"), model).identity
    alone = draw(model, Request(anna, PROMPT, 5))[0]
    together = draw(model, Request(bert, "a smiling man", 9), Request(anna, PROMPT, 5), Request(anna, PROMPT, 6))
    assert np.array_equal(alone, draw(model, Request(anna, PROMPT, 5))[0])
    assert furthest(alone, together[1]) <= 1
    assert furthest(together[1], together[2]) > 1


def test_law_2_two_people_in_one_batch_do_not_mix(model: Any) -> None:
    """diffusers #9813: embeddings repeated over the batch, each image sees every person."""
    anna, bert = (METHODS["ip-adapter"].value(person(digest), model).identity for digest in ("1", "7"))
    both = draw(model, Request(anna, PROMPT, 5), Request(bert, PROMPT, 5))
    assert furthest(both[0], draw(model, Request(anna, PROMPT, 5))[0]) <= 1
    assert furthest(both[1], draw(model, Request(bert, PROMPT, 5))[0]) <= 1
    assert furthest(both[0], both[1]) > 1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ip-adapter"])
def test_law_3_the_order_of_photos_does_not_change_the_image(model: Any, name: str) -> None:
    orders = [METHODS[name].value(person(*digests), model).identity for digests in (("1", "2", "3"), ("3", "1", "2"))]
    images = [draw(model, Request(identity, PROMPT, 0))[0] for identity in orders]
    assert furthest(*images) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_law_3_copies_of_one_photo_draw_that_photo_s_image(model: Any, name: str) -> None:
    one, nine = (METHODS[name].value(person(*["4"] * count), model).identity for count in (1, 9))
    assert furthest(draw(model, Request(one, PROMPT, 0))[0], draw(model, Request(nine, PROMPT, 0))[0]) <= 1


def test_guidance_off_does_not_turn_the_negative_into_a_second_photo(model: Any) -> None:
    identity = METHODS["ip-adapter"].value(person("1"), model).identity
    plain = SamplingConfig(steps=2, guidance_scale=1.0, guidance_rescale=0.0)
    with model.applied([identity]) as embeddings:
        assert embeddings.shape == (1, 1, 128)
        image = sample(SamplingBatch(model, plain, [PROMPT], [0], embeddings))[0]
    pipeline = model.pipeline
    with model.applied([identity]):
        pipeline.set_ip_adapter_scale(1.0)
        direct = pipeline(
            PROMPT, num_inference_steps=2, guidance_scale=1.0, latents=centred_noise(model, 0),
            ip_adapter_image_embeds=[embeddings], output_type="np",
        ).images[0]  # fmt: skip
    assert furthest(image, np.rint(direct * 255).astype(np.uint8)) == 0


def test_law_9_what_diffusers_computes_we_compute(model: Any, toy_folder: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    identity = METHODS["ip-adapter-avg"].value(person("1", "2"), model).identity
    ours = draw(
        model,
        Request(identity, PROMPT, 3),
        sampling=SamplingConfig(
            steps=3, guidance_scale=2.5, guidance_rescale=0.0, text_guidance_scale=0.0, ip_adapter_scale=0.7
        ),
    )[0]
    pipeline = StableDiffusionPipeline.from_pretrained(toy_folder, dtype=torch.float32, low_cpu_mem_usage=False)
    pipeline.load_ip_adapter(
        toy_folder,
        subfolder="ip-adapter",
        weight_name="ip-adapter.safetensors",
        image_encoder_folder=None,
        low_cpu_mem_usage=False,
    )
    pipeline.set_ip_adapter_scale(0.7)
    assert identity.embeddings is not None
    assert len(load_file(toy_folder / "ip-adapter/ip-adapter.safetensors")) == 4 + 2 * 7
    embeddings = identity.embeddings[None]  # (1, M, D)
    theirs = pipeline(
        PROMPT, num_inference_steps=3, guidance_scale=2.5, latents=centred_noise(model, 3), output_type="np",
        ip_adapter_image_embeds=[torch.cat([torch.zeros_like(embeddings), embeddings])],
    ).images[0]  # fmt: skip
    assert furthest(ours, np.rint(theirs * 255).astype(np.uint8)) <= 1


@pytest.mark.parametrize("method_of", [lambda name: name, lambda name: f"dreambooth-lora+{name}"])
def test_checking_an_identity_loads_no_adapter(toy_folder: Path, method_of: Callable[[str], str]) -> None:
    """Of a trained method's identity the adapter is loaded when it is applied, also where the method is one of two combined."""
    name, first, second = "ip-adapter-attention", load_pocket(toy_folder, name="toy"), load_pocket(toy_folder, name="toy")
    first.encoder = second.encoder = FakeEncoder()
    made = METHODS[name].value(person("1", "2"), first).identity
    assert made.adapter != second.adapter_name
    identity = replace(made, method=method_of(name))
    second.validate(identity)
    assert list(second.adapters) == [second.adapter_name]
    assert np.array_equal(draw(second, Request(identity, PROMPT, 0)), draw(first, Request(made, PROMPT, 0)))
    assert made.adapter in second.adapters


@pytest.mark.slow
def test_identities_of_equal_weights_share_a_batch(model: Any) -> None:
    tuned = METHODS["dreambooth-lora"].value(person("1", "2"), model).identity
    same = replace(tuned, weights={name: value.clone() for name, value in tuned.weights.items()})
    other = replace(tuned, weights={name: value + 1e-3 for name, value in tuned.weights.items()})
    requests = [Request(each, PROMPT, seed) for seed, each in enumerate((tuned, same, other))]
    assert [len(batch) for batch in batch_requests(model, requests, SamplingConfig(), 4)] == [2, 1]
    with model.applied([tuned, same]) as embeddings:
        assert embeddings is None
    with pytest.raises(IdentityError, match="2 identities with weights of their own"), model.applied([tuned, other]):
        pytest.fail("both were applied")


@pytest.mark.parametrize("part", ["model", "encoder", "adapter"])
def test_an_identity_of_another_model_is_refused_before_anything_is_drawn(model: Any, part: str) -> None:
    ours = {"model": model.name, "encoder": model.encoder.name, "adapter": model.adapter_name}
    identity = Identity("ip-adapter", **(ours | {part: "other@1"}), embeddings=torch.zeros(1, 128))
    with pytest.raises(IdentityError, match=f"made for {part} other@1"):
        next(generate(model, [Request(None, PROMPT, 0), Request(identity, PROMPT, 0)], FEW))
