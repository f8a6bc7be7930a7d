"""Photos changed at random: by how much, that the model is told, and that nothing of it is left in what it gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tenth.data.faces.crops import FaceCrops, PhotoDataset
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter
from tenth.models.pocket.loader import load_pocket
from tenth.training.pocket.augmentation import NUM_AUGMENTATIONS, Augmentation, add_augmentation_conditioning
from tenth.training.pocket.dataset import AugmentedLatents, PocketConditioningDropout
from tenth.training.pocket.diffusion import DiffusionRecipe, train_diffusion, training_loss
from tenth.training.pocket.identity_loss import IdentityLossConfig
from tenth.training.pocket.modules import CaptionedPeople, PocketModules
from tenth.training.schedule import TrainingConfig
from toy_latents import photo_dataset, pocket_dataset, step_rng

PLAIN = Augmentation(p_apply=0.5)


def amounts(**changed: float) -> Tensor:
    """One picture's: turn, zoom, across, down, light, contrast, colour."""
    names = ("turn", "zoom", "across", "down", "light", "contrast", "colour")
    return torch.tensor([[changed.get(name, 0.0) for name in names]])


def test_no_change_is_none_and_each_change_is_what_it_says() -> None:
    pixels = torch.rand(1, 3, 32, 32) * 1.2 - 0.6
    assert torch.allclose(PLAIN(pixels, amounts()), pixels, atol=1e-5)
    assert torch.allclose(PLAIN(pixels, amounts(light=1.0)), pixels + PLAIN.max_brightness, atol=1e-5)
    assert torch.allclose(PLAIN(pixels, amounts(contrast=-1.0)), pixels * (1 - PLAIN.max_contrast), atol=1e-5)
    grey = replace(PLAIN, max_saturation=1.0)(pixels, amounts(colour=-1.0))
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-5)
    dot = torch.full((1, 3, 33, 33), -1.0)
    dot[..., 16, 16] = 1.0
    moved = replace(PLAIN, max_translation=4 / 33)(dot, amounts(across=1.0))  # it looks four pixels to the right
    assert int(moved[0, 0].argmax()) == 16 * 33 + 12
    turned = replace(PLAIN, max_rotation=90.0)(dot.roll(8, -1), amounts(turn=1.0))
    assert int(turned[0, 0].argmax()) in (8 * 33 + 16, 24 * 33 + 16)
    larger = replace(PLAIN, max_zoom=1.0)(dot.roll(4, -1), amounts(zoom=1.0))  # twice as large, twice as far from the middle
    assert int(larger[0, 0].argmax()) == 16 * 33 + 24


def test_the_unet_is_told_and_forgets_nothing_when_nothing_was_changed(toy_configs: Path) -> None:
    torch.manual_seed(0)
    parts = PocketModules.create(toy_configs)
    install_ip_adapter(parts.unet, init_ip_adapter(parts.unet, 128))
    told = CaptionedPeople(parts.tokenize(["a man"] * 2), torch.randn(2, 1, 128))
    latents = torch.randn(2, 8, 16, 16)

    def loss(changes: Tensor | None) -> float:
        return float(parts.denoising_loss(latents, replace(told, augmentation=changes), step_rng(2)).detach())

    before = loss(None)
    add_augmentation_conditioning(parts.unet)
    some = torch.ones(2, NUM_AUGMENTATIONS)
    assert loss(some) == before  # the layer begins at zero
    nn.init.normal_(parts.unet.time_embedding.cond_proj.weight)
    assert loss(torch.zeros(2, NUM_AUGMENTATIONS)) == loss(None) == before
    assert loss(some) != before


def test_a_share_of_the_photos_is_changed_and_not_looked_at(toy_configs: Path) -> None:
    torch.manual_seed(0)
    made, encoder = pocket_dataset(), nn.Sequential(nn.PixelUnshuffle(8), nn.Conv2d(192, 8, 1))
    crops = torch.randint(0, 256, (6, 3, 128, 128), dtype=torch.uint8)
    changed = AugmentedLatents(FaceCrops((), crops).images, encoder, Augmentation(p_apply=0.5))
    indices = torch.arange(6).repeat(50)
    mirrored = torch.zeros(300, dtype=torch.long)
    latents, changes = changed(made.latents[indices, mirrored], indices, mirrored, step_rng(300))
    told = changes.any(1)
    assert 110 < int(told.sum()) < 190
    assert torch.equal(latents[~told], made.latents[indices, mirrored][~told])
    assert not torch.isclose(latents[told], made.latents[indices, mirrored][told]).all(-1).any()
    assert changes.abs().max() <= 1

    parts = PocketModules.create(toy_configs)
    install_ip_adapter(parts.unet, init_ip_adapter(parts.unet, 128))
    add_augmentation_conditioning(parts.unet)
    people: list[int] = []

    def likeness(found: Tensor, *_: object) -> Tensor:
        people.append(len(found))
        return torch.zeros(len(found))

    recipe = DiffusionRecipe(
        PhotoDataset(Path(), Path()),
        Path(),
        TrainingConfig(1),
        PocketConditioningDropout(p_no_adapter=0.0, p_unconditional=0.0, p_no_image=0.0),
        identity_loss=IdentityLossConfig(1.0, p_apply=1.0, min_alphas_cumprod=0.0),
    )
    for share, seen in ((0.0, 4), (1.0, 0)):
        people.clear()
        some = replace(made, augmented=replace(changed, augmentation=Augmentation(p_apply=share)))
        training_loss(parts, some, recipe, torch.arange(4), step_rng(4), likeness)  # type: ignore[arg-type]
        assert sum(people) == seen


@pytest.mark.slow
def test_a_run_on_changed_photos_gives_a_model_that_knows_nothing_of_them(
    tmp_path: Path, toy_folder: Path, toy_configs: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    vae = toy_folder / "vae/diffusion_pytorch_model.safetensors"
    schedule = TrainingConfig(
        8,
        batch_size=2,
        learning_rate=1e-3,
        warmup_images=0,
        ema_halflife_images=4,
        extra_ema_halflives_images=(400,),
        checkpoint_every_images=4,
    )
    recipe = DiffusionRecipe(
        photo_dataset(tmp_path, face_photos), vae, schedule, init_from=toy_folder, augmentation=Augmentation(0.5)
    )
    train_diffusion(recipe, tmp_path / "run")
    name = "unet/diffusion_pytorch_model.safetensors"
    before, final, longer = (
        load_file(folder / name) for folder in (toy_folder, tmp_path / "run/final", tmp_path / "run/average-400")
    )
    assert before.keys() == final.keys() == longer.keys()
    assert any(not torch.equal(before[key], final[key]) for key in before)
    assert all(torch.equal(longer[key], final[key]) for key in final)  # so early both averages are as short
    assert load_pocket(tmp_path / "run/average-400").name.startswith("pocket@")
