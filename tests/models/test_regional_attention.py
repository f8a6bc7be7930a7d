"""Attention in regions: exact at one layer, equal to diffusers' where diffusers is right, and where it is not."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers.image_processor import IPAdapterMaskProcessor
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from torch import Tensor

from tenth.core.errors import ModelError
from tenth.models.adapters.regional_attention import RegionalIPAdapterAttnProcessor, RegionMasks

HEIGHT, WIDTH, TOKENS = 8, 8, 4


@pytest.fixture
def layer() -> Any:
    """A cross-attention with an adapter, random weights."""
    torch.manual_seed(0)
    attention = Attention(query_dim=16, cross_attention_dim=12, heads=2, dim_head=8)
    processor = RegionalIPAdapterAttnProcessor(16, 12, num_tokens=[TOKENS], scale=0.8)
    attention.set_processor(processor)
    return attention.eval().requires_grad_(requires_grad=False)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def halves(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Masks (1, 2, height, width): the left half, the right half."""
    left = torch.zeros(height, width)
    left[:, : width // 2] = 1
    return torch.stack([left, 1 - left])[None]


def attend(layer: Any, image: Tensor, masks: RegionMasks | None, seed: int = 0, batch: int = 1) -> Tensor:
    """Of queries and text of a seed, with image tokens (B, M, T, D)."""
    hidden, text = numbers(batch, HEIGHT * WIDTH, 16, seed=seed), numbers(batch, 7, 12, seed=seed + 1)
    attended: Tensor = layer(hidden, encoder_hidden_states=(text, [image]), ip_adapter_masks=masks)
    return attended


def test_positions_outside_a_region_get_nothing_of_its_person_to_the_bit(layer: Any) -> None:
    """Another person at the right changes no number at the left, and one at neither place is as if no adapter were there."""
    masks, one = RegionMasks.of_latents((1, 1), halves()), numbers(1, 2, TOKENS, 12, seed=3)
    other = torch.stack([one[:, 0], numbers(1, TOKENS, 12, seed=9)], 1)
    before, after = (attend(layer, image, masks).view(HEIGHT, WIDTH, 16) for image in (one, other))
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().amax(-1).min() > 1e-4

    nowhere = RegionMasks.of_latents((2,), torch.zeros(1, 1, HEIGHT, WIDTH))
    everywhere = attend(layer, one, nowhere)
    layer.processor.scale = [0.0]
    assert torch.equal(everywhere, attend(layer, one, None))
    assert torch.equal(everywhere, attend(layer, one, masks))


@pytest.mark.parametrize("rows", [1, 3])
def test_one_person_everywhere_is_no_region_to_the_bit(layer: Any, rows: int) -> None:
    """Of several rows as well, as ip-adapter-concat has them: attended together."""
    image, full = numbers(2, rows, TOKENS, 12, seed=3), RegionMasks.of_latents((rows,), torch.ones(2, 1, HEIGHT, WIDTH))
    assert torch.equal(attend(layer, image, full, batch=2), attend(layer, image, None, batch=2))


def diffusers_attention(layer: Any, image: Tensor, masks: Tensor, seed: int = 0) -> Tensor:
    """The same layer by diffusers' own processor and masks (1, P, H, W)."""
    theirs = IPAdapterAttnProcessor2_0(16, 12, num_tokens=[TOKENS], scale=0.8)
    theirs.load_state_dict(layer.processor.state_dict())
    layer.set_processor(theirs)
    hidden, text = numbers(1, HEIGHT * WIDTH, 16, seed=seed), numbers(1, 7, 12, seed=seed + 1)
    attended: Tensor = layer(hidden, encoder_hidden_states=(text, [image]), ip_adapter_masks=[masks])
    return attended


def test_it_is_diffusers_own_where_that_is_right(layer: Any) -> None:
    """One row a person, no overlap, masks of the layer's resolution: nothing is to be reduced."""
    image = numbers(1, 2, TOKENS, 12, seed=3)
    ours = attend(layer, image, RegionMasks.of_latents((1, 1), halves()))
    torch.testing.assert_close(ours, diffusers_attention(layer, image, halves()), atol=1e-6, rtol=0)


def test_of_a_person_of_several_rows_diffusers_adds_one_attention_a_row(layer: Any) -> None:
    """So three rows count three times, where without masks they are attended together."""
    image, full = numbers(1, 3, TOKENS, 12, seed=3), torch.ones(1, 1, HEIGHT, WIDTH)
    together = attend(layer, image, None)
    theirs = diffusers_attention(layer, image, full.expand(1, 3, -1, -1))
    assert (theirs - together).abs().max() > 0.1


def reduced(mask: Tensor, positions: int) -> Tensor:
    """A mask (H, W) as diffusers brings it to so many positions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights: Tensor = IPAdapterMaskProcessor.downsample(mask[None], 1, positions, 1)
    return weights[0, :, 0]


def test_masks_are_reduced_as_the_unet_reduces_its_latents() -> None:
    """Half, and rounded up: every size that convolutions of stride 2 give."""
    for height, width in ((8, 8), (9, 13), (1, 5), (96, 64)):
        masks, latents = RegionMasks.of_latents((1, 1), halves(height, width)), torch.zeros(1, 1, height, width)
        sizes = [height * width]
        while sizes[-1] > 1:
            latents = torch.nn.functional.conv2d(latents, torch.ones(1, 1, 3, 3), stride=2, padding=1)
            sizes.append(latents.numel())
        assert list(masks.weights) == sizes
        for weights in masks.weights.values():
            torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]), atol=1e-6, rtol=0)
            assert (weights >= 0).all()
    with pytest.raises(ModelError, match="this UNet attends at 7 positions"):
        masks.at(7)


def test_what_diffusers_makes_of_masks_reaches_beyond_their_regions() -> None:
    """Its bicubic filter takes the person away from the other side of a border: ours is the share of each cell."""
    left = halves(64, 64)[0, 0]
    left[:, 32] = 1  # a border within a cell of a smaller size
    theirs = reduced(left, 16 * 16).view(16, 16)
    assert theirs.min() < -0.01
    ours = RegionMasks.of_latents((1,), left[None, None]).at(16 * 16).view(16, 16)
    assert torch.equal(ours.unique(), torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(ours[:, 9:], torch.zeros(16, 7))
    # Latents of 9 x 13 are reduced to 3 x 4. It guesses 2 x 6 of the product, so that the top half is not the top half.
    top = torch.zeros(9, 13)
    top[:4] = 1
    assert torch.equal(RegionMasks.of_latents((1,), top[None, None]).at(12).view(3, 4), torch.eye(3)[:1].T.expand(3, 4))
    assert reduced(top, 12).view(3, 4)[1].max() > 0.9


@pytest.mark.parametrize("tail", [1, 2])
def test_images_of_a_batch_have_masks_of_their_own(layer: Any, tail: int) -> None:
    image, first = numbers(2, 3, TOKENS, 12, seed=3), halves()
    rows, both = (3 - tail, tail), torch.cat([first, first.flip(1)])
    together = attend(layer, image, RegionMasks.of_latents(rows, both), batch=2)
    hidden, text = numbers(2, HEIGHT * WIDTH, 16), numbers(2, 7, 12, seed=1)
    joined = RegionMasks.concat([RegionMasks.of_latents(rows, each[None]) for each in both])
    for row in (0, 1):
        one: Sequence[Tensor] = [each[row : row + 1] for each in (hidden, text, image)]
        masks = RegionMasks.of_latents(rows, both[row : row + 1])
        alone = layer(one[0], encoder_hidden_states=(one[1], [one[2]]), ip_adapter_masks=masks)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=0)
        assert torch.equal(joined.at(64)[row : row + 1], masks.at(64))
