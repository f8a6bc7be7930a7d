from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from tenth.core.errors import DataError, RecipeError
from tenth.core.rng import StepRNG
from tenth.models.aggregators.set_aggregator import SetAggregator
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.adapter.dataset import AdapterDataset, EncodedPhotos, check_counts, check_finite, person_spans
from tenth.training.adapter.reference_sampling import (
    IdentityContrastiveLoss,
    ReferenceBatch,
    ReferenceSampling,
    sample_references,
)

WIDTH = 8


def photos_of(*counts: int) -> EncodedPhotos:
    """People with so many photos; an embedding tells its photo, a poor one is its negative."""
    number = sum(counts)
    embeddings = torch.arange(1, number + 1).float()[:, None].repeat(1, WIDTH)
    return EncodedPhotos(
        latent_moments=torch.zeros(number, 2, 1, 1, 1),
        embeddings=embeddings,
        degraded_embeddings=-embeddings,
        caption_indices=torch.zeros(number, 1, dtype=torch.long),
        prompt_embeddings=PromptEmbeddings(torch.zeros(1, 1, 1)),
        num_photos=torch.tensor(counts),
        num_captions=torch.ones(len(counts), dtype=torch.long),
    )


def album(*counts: int) -> AdapterDataset:
    return AdapterDataset.in_memory(photos_of(*counts))


def chosen(made: AdapterDataset, references: ReferenceSampling, times: int = 400) -> ReferenceBatch:
    people = torch.arange(made.num_people).repeat(times)
    return sample_references(made, people, references, StepRNG(0, 0, len(people)))


def test_one_of_ten_is_left_out_uniformly_and_the_other_nine_are_shown() -> None:
    made = chosen(album(10, 10), ReferenceSampling())
    assert made.mask.all()
    for target, photos in zip(made.target.tolist(), made.references.tolist(), strict=True):
        assert {target, *photos} in (set(range(10)), set(range(10, 20)))
    counts = Counter(made.target.tolist())
    assert len(counts) == 20
    assert max(counts.values()) < 75  # of 40 expected; the odds against are far beyond a million
    assert min(counts.values()) > 12


def test_of_more_than_ten_photos_ten_are_drawn_anew() -> None:
    made = chosen(album(30), ReferenceSampling())
    sets = {frozenset([target, *photos]) for target, photos in zip(made.target.tolist(), made.references.tolist(), strict=True)}
    assert {len(each) for each in sets} == {10}
    assert len(sets) > 390
    assert set().union(*sets) == set(range(30))


def test_the_number_of_references_is_drawn_and_capped_by_what_there_is() -> None:
    made = chosen(album(2, 12), ReferenceSampling(min_photos=1))
    numbers = made.mask.sum(1).view(-1, 2)
    assert set(numbers[:, 0].tolist()) == {1}
    assert set(numbers[:, 1].tolist()) == set(range(1, 10))
    assert not (made.references == made.target[:, None])[made.mask].any()
    assert not made.embeddings[~made.mask].any()


def test_a_wrong_photo_is_another_person_s_and_poor_ones_are_poor() -> None:
    made = album(12, 12, 2)
    references = ReferenceSampling(min_photos=1, p_impostor=0.5, p_degraded=0.2)
    drawn = chosen(made, references)
    seen = drawn.embeddings[..., 0].abs().long() - 1
    own = (seen >= made.first_photo[:, None].repeat(400, 1)) & (
        seen < (made.first_photo + made.num_photos)[:, None].repeat(400, 1)
    )
    strangers = (~own & drawn.mask).sum(1)
    assert set(strangers.tolist()) == {0, 1}
    enough = drawn.mask.sum(1) >= 3
    assert not strangers[~enough].any()
    assert float(strangers[enough].float().mean()) == pytest.approx(0.5, abs=0.06)
    poor = (drawn.embeddings[..., 0] < 0)[drawn.mask]
    assert float(poor.float().mean()) == pytest.approx(0.2, abs=0.03)


def test_what_is_chosen_does_not_depend_on_how_the_batch_is_cut() -> None:
    made, references, people = (
        album(12, 5, 3),
        ReferenceSampling(min_photos=1, p_impostor=0.5, p_degraded=0.5),
        torch.tensor([0, 1, 2, 0, 1, 2]),
    )
    whole = sample_references(made, people, references, StepRNG(1, 2, 6))
    half = sample_references(made, people[3:], references, StepRNG(1, 2, 6, slice(3, 6)))
    assert torch.equal(whole.embeddings[3:], half.embeddings)
    assert torch.equal(whole.target[3:], half.target)


def test_impossible_references_are_refused() -> None:
    with pytest.raises(RecipeError, match="min_photos is 4; needed: at most max_photos, 3"):
        ReferenceSampling(max_photos=3, min_photos=4)


def test_the_identity_objective_falls_as_the_aggregator_learns() -> None:
    torch.manual_seed(0)
    centres = torch.randn(20, 1, WIDTH)
    rows = (centres + 0.7 * torch.randn(20, 6, WIDTH)).flatten(0, 1)
    poor = 0.3 * torch.randn_like(rows)
    made = AdapterDataset.in_memory(replace(photos_of(*[6] * 20), embeddings=rows, degraded_embeddings=poor))
    aggregator, objective = SetAggregator(WIDTH), IdentityContrastiveLoss()
    optimizer = torch.optim.AdamW(aggregator.parameters(), lr=3e-3)
    losses = []
    for step in range(80):
        people = torch.arange(20).repeat(4)
        loss = objective(aggregator, made, people, StepRNG(0, step, 80))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])


def test_the_identity_objective_is_computed_where_the_aggregator_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device "meta" stands in for an accelerator: it refuses tensors of the CPU, but knows no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    made, aggregator = album(4, 4), SetAggregator(WIDTH).to("meta")
    loss = IdentityContrastiveLoss()(aggregator, made, torch.tensor([0, 1]), StepRNG(0, 0, 2))
    assert loss.device.type == "meta"


def test_too_few_photos_and_what_is_not_finite_are_said_before_the_first_step() -> None:
    with pytest.raises(DataError, match="of 2 train people with a usable photo none has more than 3; at least 10 photos"):
        check_counts(torch.tensor([3, 1]), 10)
    made = photos_of(2, 2)
    made.embeddings[2, 3] = torch.nan
    with pytest.raises(DataError, match="c has embeddings that are not finite"):
        check_finite(made, ["a", "b", "c", "d"])
    with pytest.raises(DataError, match="not together"):
        person_spans(["anna", "bert", "anna"])
