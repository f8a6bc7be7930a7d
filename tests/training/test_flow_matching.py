"""A step of training by flow matching, against the objective as the published training scripts document it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor

from tenth.core.errors import ModelError, RecipeError
from tenth.core.rng import StepRNG
from tenth.models.families.loader import load_flow_model
from tenth.training.flow_matching.frozen_transformer import FrozenTransformer, frozen_transformer
from tenth.training.flow_matching.time_sampling import TimeSampling, schedule_shift
from tenth.training.flow_matching.velocity_loss import velocity_loss
from toy_families import toy_family

BATCH, LATENTS = 3, (16, 4, 6)
TIMES = TimeSampling(logit_mean=0.4, logit_std=1.3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_flow_model(toy_family("flux2-klein", tmp_path_factory.mktemp("models") / "klein"))


@pytest.fixture
def frozen(model: Any) -> Iterator[FrozenTransformer]:
    with frozen_transformer(model, TIMES) as each:
        each.transformer.requires_grad_(True)
        yield each
        each.transformer.zero_grad()


def latents() -> Tensor:
    return torch.randn(BATCH, *LATENTS, generator=torch.Generator().manual_seed(5))


def gradients(loss: Tensor, network: Any) -> dict[str, Tensor]:
    network.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}


def documented_loss(transformer: Any, hidden: Tensor, seed: int, guidance: float | None = None) -> Tensor:
    """FLUX.2 klein's objective: (B,) losses, of the noise and the times that a step of this seed draws."""
    rng = StepRNG(seed, 0, BATCH)
    noise, normal = rng.normal(*LATENTS), rng.normal()
    shift = math.exp(compute_empirical_mu(LATENTS[1] * LATENTS[2], 200))  # of its schedule, by the size of the image
    times = 1 / (1 + torch.exp(-(0.4 + 1.3 * normal.double())))
    sigmas = (shift / (shift + (1 / times - 1))).float()
    share = sigmas[:, None, None, None]
    noisy = (1.0 - share) * latents() + share * noise
    positions = Flux2KleinPipeline._prepare_latent_ids(noisy)
    predicted = transformer(
        hidden_states=Flux2KleinPipeline._pack_latents(noisy),
        timestep=sigmas,
        guidance=None if guidance is None else torch.full((BATCH,), guidance),
        encoder_hidden_states=hidden,
        txt_ids=Flux2KleinPipeline._prepare_text_ids(hidden),
        img_ids=positions,
        return_dict=False,
    )[0]
    velocity = Flux2KleinPipeline._unpack_latents_with_ids(predicted, positions)
    return ((velocity - (noise - latents())) ** 2).reshape(BATCH, -1).mean(1)


@pytest.mark.slow
def test_loss_and_gradients_are_those_of_the_documented_objective(frozen: FrozenTransformer) -> None:
    prompts = frozen.encode_prompts(["a photo of a zwx person", "a person", "a photo"])
    ours = frozen.per_sample_loss(latents(), prompts, None, StepRNG(7, 0, BATCH))
    theirs = documented_loss(frozen.transformer, prompts.hidden, 7)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert float(ours.detach().std()) > 0.01
    expected, found = (gradients(losses.mean(), frozen.transformer) for losses in (theirs, ours))
    assert found.keys() == expected.keys()
    assert any(float(value.abs().max()) > 1e-3 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}")


def test_gradient_checkpointing_changes_nothing(frozen: FrozenTransformer) -> None:
    prompts = frozen.encode_prompts(["a photo of a person"] * BATCH)
    both = []
    for enabled in (False, True):
        with frozen.gradient_checkpointing(enabled):
            loss = frozen.per_sample_loss(latents(), prompts, None, StepRNG(7, 0, BATCH)).mean()
            both.append(gradients(loss, frozen.transformer))
    assert not frozen.transformer.is_gradient_checkpointing
    for name, value in both[0].items():
        torch.testing.assert_close(both[1][name], value, rtol=1e-6, atol=1e-7)


def test_a_transformer_with_a_layer_for_guidance_is_given_the_family_s_scale(model: Any, tmp_path: Path) -> None:
    guided = load_flow_model(toy_family("flux2-klein", tmp_path / "guided"))
    config = dict(guided.pipeline.transformer.config) | {"guidance_embeds": True}
    guided.pipeline.transformer = type(guided.pipeline.transformer).from_config(config)
    guided.family = replace(guided.family, training=replace(guided.family.training, guidance=3.5))
    with frozen_transformer(guided, TIMES) as frozen, torch.no_grad():
        prompts = frozen.encode_prompts(["a photo"] * BATCH)
        ours = frozen.per_sample_loss(latents(), prompts, None, StepRNG(1, 0, BATCH))
        theirs = documented_loss(frozen.transformer, prompts.hidden, 1, guidance=3.5)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(ours, documented_loss(frozen.transformer, prompts.hidden, 1, guidance=1.0), atol=1e-4)


def test_micro_batches_together_are_the_batch(model: Any) -> None:
    def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
        return noisy * timesteps[:, None, None, None] / 1000

    whole = velocity_loss(predict, latents(), StepRNG(3, 1, BATCH), TIMES, 2.0)
    parts = [slice(0, 1), slice(1, 3)]
    apart = [velocity_loss(predict, latents()[part], StepRNG(3, 1, BATCH, part), TIMES, 2.0) for part in parts]
    assert torch.equal(torch.cat(apart), whole)


def test_the_shift_is_the_schedule_s_for_this_size(model: Any) -> None:
    """FLUX.2's goes from exp(0.5) for 256 tokens to exp(1.15) for 4,096; another scheduler's is one number."""
    scheduler = model.pipeline.scheduler
    for side, mu in ((16, 0.5), (64, 1.15)):
        found = schedule_shift(model.family, scheduler, (16, side, side))
        assert found == pytest.approx(math.exp(mu), rel=1e-4)
    fixed = type(scheduler).from_config(scheduler.config, use_dynamic_shifting=False, shift=6.0)
    assert schedule_shift(model.family, fixed, (16, 64, 64)) == 6.0


def test_times_are_logit_normal_and_shifted() -> None:
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).double()
    for times, middle in ((TimeSampling(), 3 / 4), (TimeSampling(shift=1.0), 1 / 2), (TimeSampling(logit_mean=-1.0), 0.5246)):
        sigmas = times.sigmas(normal, schedule_shift=3.0)
        assert float(sigmas.median()) == pytest.approx(middle, abs=0.01)
        assert 0 < float(sigmas.min()) < float(sigmas.max()) < 1
    wide, narrow = (TimeSampling(logit_std=std).sigmas(normal).std() for std in (1.5, 0.5))
    assert wide > 2 * narrow
    with pytest.raises(RecipeError, match="logit_std"):
        TimeSampling(logit_std=0.0)


def test_weights_and_modes_are_as_before(model: Any) -> None:
    model.pipeline.transformer.eval().requires_grad_(True)
    with frozen_transformer(model, TIMES) as frozen:
        assert frozen.transformer.training
        assert not any(weight.requires_grad for weight in model.pipeline.text_encoder.parameters())
        before = {name: value.clone() for name, value in model.pipeline.text_encoder.state_dict().items()}
        with frozen.text_encoders_freed():
            assert sum(weight.numel() for weight in model.pipeline.text_encoder.parameters()) == 0
            with frozen.text_encoders_loaded():
                frozen.encode_prompts(["another prompt"])
            assert sum(weight.numel() for weight in model.pipeline.text_encoder.parameters()) == 0
        after = model.pipeline.text_encoder.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not model.pipeline.transformer.training
    assert all(weight.requires_grad for weight in model.pipeline.transformer.parameters())


def test_a_transformer_that_is_fetched_layer_by_layer_is_not_trained(model: Any) -> None:
    whole = model.pipeline.transformer
    try:
        with torch.device("meta"):
            model.pipeline.transformer = type(whole).from_config(whole.config)
        with pytest.raises(ModelError, match="the transformer is fetched layer by layer"), frozen_transformer(model, TIMES):
            pass
    finally:
        model.pipeline.transformer = whole
