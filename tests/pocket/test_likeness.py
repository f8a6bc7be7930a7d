"""The pocket model's second term: faces that a prediction shows, and photos of rare signs seen more often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tenth.adapt.ip_adapter import untrained_adapter
from tenth.adapter import install_adapter
from tenth.encode.dlib_net import chips_of
from tenth.encode.face import FaceEncoder
from tenth.pocket.autoencoder import PocketAutoencoder
from tenth.pocket.faces import People
from tenth.pocket.likeness import Likeness, LikenessWeights
from tenth.pocket.load import load_pocket
from tenth.pocket.pack import CONFIGS
from tenth.pocket.train_diffusion import DiffusionRecipe, Dropout, denoising_loss, repeated
from tenth.pocket.trainable import Trainable
from tenth.training import Schedule
from toy_latents import draws, examples


@pytest.fixture(scope="module")
def likeness() -> Likeness:
    model = load_pocket()
    assert isinstance(model.pipeline.vae, PocketAutoencoder)
    assert isinstance(model.encoder, FaceEncoder)
    return Likeness(model.pipeline.vae, model.encoder)


def test_a_face_is_like_itself_and_learns_to_be_like_another(likeness: Likeness) -> None:
    torch.manual_seed(0)
    latents = torch.randn(2, 8, 16, 16)
    with torch.no_grad():
        own = likeness.encoder.standardised(likeness.net(chips_of(likeness.decoder(latents))))
    assert torch.allclose(likeness(latents, own), torch.zeros(2), atol=1e-4)
    moving = latents.clone().requires_grad_()
    before = likeness(moving, own.flip(0))
    before.sum().backward()
    assert moving.grad is not None
    after = likeness(latents - 0.02 * moving.grad / moving.grad.abs().max(), own.flip(0))
    assert bool((after < before).all())
    assert all(weights.grad is None for part in (likeness.decoder, likeness.net) for weights in part.parameters())


def test_only_faces_that_see_their_person_and_have_signal_are_looked_at(likeness: Likeness) -> None:
    torch.manual_seed(0)
    parts, made = Trainable.create(CONFIGS), examples()
    install_adapter(parts.unet, untrained_adapter(parts.unet, 128))
    indices = torch.arange(4)
    plain = DiffusionRecipe(People(Path(), Path()), Path(), Schedule(1), Dropout(base=0.0, both=0.0, image=0.0))

    def difference(recipe: DiffusionRecipe) -> float:
        """What the term adds to one step's loss."""
        with torch.no_grad():
            values = [denoising_loss(parts, made, recipe, indices, draws(4, 3), each) for each in (likeness, None)]
        return float(values[0] - values[1])

    every = LikenessWeights(weight=1.0, share=1.0, signal=0.0)
    assert difference(replace(plain, likeness=every)) > 0.01
    assert difference(replace(plain, likeness=replace(every, weight=2.0))) == pytest.approx(
        2 * difference(replace(plain, likeness=every)), rel=1e-3
    )
    assert difference(replace(plain, likeness=replace(every, share=0.0))) == 0
    assert difference(replace(plain, likeness=replace(every, signal=1.0))) == 0
    assert difference(replace(plain, dropout=Dropout(base=1.0), likeness=every)) == 0
    assert difference(replace(plain, dropout=Dropout(base=0.0, both=0.0, image=1.0), likeness=every)) == 0


def test_photos_of_rare_signs_are_seen_more_often() -> None:
    captions = ["a man"] * 96 + ["a man with a beard"] * 3 + ["a man wearing a hat"]
    assert repeated(captions, 0.0).tolist() == list(range(100))
    seen = repeated(captions, 0.12).tolist()
    assert seen == sorted(seen)
    assert set(seen) == set(range(100))
    assert sum(96 <= each < 99 for each in seen) == 6  # sqrt(0.12 / 0.03) each
    assert seen.count(99) in (3, 4)  # sqrt(0.12 / 0.01) = 3.46
    assert sum(each < 96 for each in seen) == 96  # "man" is not rare


def test_a_run_goes_on_from_a_whole_model(tmp_path: Path) -> None:
    parts = Trainable.create(CONFIGS)
    parts.load(CONFIGS)
    shipped = load_pocket()
    for name, value in shipped.pipeline.unet.state_dict().items():
        assert torch.equal(parts.unet.state_dict()[name], value), name
    tokens = parts.tokens(["a smiling woman"])
    with torch.no_grad():
        assert torch.equal(parts.text_encoder(tokens)[0], shipped.pipeline.text_encoder(tokens)[0])
