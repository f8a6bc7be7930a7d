"""Several people in one image: regions, what each of them changes, batches and records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tenth.core.errors import DataError, IdentityError, PhotoError
from tenth.core.files.png_metadata import read_sample, save_sample
from tenth.core.types import Identity
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, expected_metadata, generate
from tenth.sampling.guidance import CONDITIONAL, TEXT_ONLY, UNCONDITIONAL, Guidance
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.passes.start_image import StartImage
from tenth.sampling.people import BatchRegions, PlacedPerson, Region, combine_people
from tenth.sampling.sampler import SamplingBatch, prompt_and_person, sample_float
from toy_drawing import FEW_STEPS, PROMPT, random_identity

PLAIN = SamplingConfig(steps=4, guidance_scale=2.0, guidance_rescale=0.0, ip_adapter_scale=0.8)
LEFT, RIGHT = Region.parse("left"), Region.parse("right")


@pytest.fixture(scope="module")
def stable(stable_folder: Path) -> Any:
    """Of the layout of Stable Diffusion 1.5 and of SDXL; draws 16 x 16 with latents of 8 x 8."""
    return load_model(str(stable_folder))


def placed(model: Any, *regions: Region, rows: int = 1, first: int = 1) -> list[PlacedPerson]:
    """A person for each region, of the seeds from `first`."""
    identities = [random_identity(model, seed, rows) for seed in range(first, first + len(regions))]
    return [PlacedPerson(*each) for each in zip(identities, regions, strict=True)]


def drawn(model: Any, people: Sequence[PlacedPerson], sampling: SamplingConfig = PLAIN, seed: int = 5) -> Any:
    """An image (H, W, 3) in [0, 1] before it is rounded."""
    with model.applied([combine_people(people)], torch_only=True) as embeddings:
        batch = SamplingBatch(model, sampling, [PROMPT], [seed], embeddings, regions=BatchRegions.of([people]))
        return sample_float(batch)[0]


# Regions


def test_a_region_covers_the_cells_that_it_says() -> None:
    for name, rows, columns in (("left", 8, 3), ("right", 8, 3), ("top", 4, 6), ("bottom", 4, 6)):
        covered = Region.parse(name).coverage(8, 6)
        assert torch.equal(covered.unique(), torch.tensor([0.0, 1.0]))
        assert covered.sum() == rows * columns
        assert covered[0 if name != "bottom" else -1, 0 if name != "right" else -1] == 1
    assert torch.equal(Region.parse("0,0,1,1").coverage(7, 5), torch.ones(7, 5))
    assert torch.equal(Region.parse("0.3,0,0.6,1").coverage(1, 10)[0], torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 0, 0.0]))
    assert torch.equal(LEFT.coverage(1, 5)[0], torch.tensor([1, 1, 0.5, 0, 0]))


def test_a_mask_is_a_region_of_any_shape(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "left.png")
    Image.fromarray(mask).convert("RGB").save(tmp_path / "left.jpg", quality=80)
    for name in ("left.png", "left.jpg"):
        region = Region.parse(str(tmp_path / name))
        assert torch.equal(region.coverage(8, 8), LEFT.coverage(8, 8))
        assert set(region.metadata) == {"mask_sha256"}
    assert Region.open(tmp_path / "left.png").metadata != Region.open(tmp_path / "left.jpg").metadata
    assert torch.equal(Region(mask=np.full((3, 5), 255, np.uint8)).coverage(7, 11), torch.ones(7, 11))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("middle", "left, right, top, bottom, four fractions such as 0,0,0.5,1"),
        ("", "the region ''"),
        ("0,0,0.5", "the region '0,0,0.5'"),
        ("0.5,0,0.5,1", "left below right"),
        ("0,0,2,1", "from 0 to 1"),
        ("0,0,nan,1", "from 0 to 1"),
        ("0,0,0.01,1", "at least 0.05"),
    ],
)
def test_what_is_no_region_is_refused(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Region.parse(text)


def test_files_that_are_no_mask_are_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="black everywhere"):
        Region.parse(str(tmp_path / "black.png"))
    for name in ("text.png", "none.png"):
        with pytest.raises(PhotoError, match=name):
            Region.parse(str(tmp_path / name))


def test_where_people_overlap_their_weights_sum_to_one() -> None:
    people = (Region.parse("0,0,0.75,1"), Region.parse("0.5,0,1,1"), Region.parse("0.5,0,1,0.5"))
    weights = BatchRegions((1, 2, 1), (people,)).masks(4, 8, torch.device("cpu")).at(32).view(3, 4, 8)
    assert torch.equal(weights.sum(0), torch.ones(4, 8))
    assert torch.equal(weights[0, 0], torch.tensor([1, 1, 1, 1, 1 / 3, 1 / 3, 0, 0]))
    assert torch.equal(weights[:, 3, 4], torch.tensor([0.5, 0.5, 0]))


# Images


def test_one_person_everywhere_is_the_image_without_a_region(stable: Any) -> None:
    for rows in (1, 3):
        everywhere = placed(stable, Region(), rows=rows)
        with stable.applied([everywhere[0].identity]) as embeddings:
            plain = sample_float(SamplingBatch(stable, PLAIN, [PROMPT], [5], embeddings))[0]
        np.testing.assert_allclose(drawn(stable, everywhere), plain, atol=1e-6)


def test_each_person_is_seen_and_where_matters(stable: Any) -> None:
    """Another person at the right changes the image, and so does an exchange of the two places."""
    one, other = placed(stable, LEFT, RIGHT)
    image = drawn(stable, [one, other])
    for changed in ([one, *placed(stable, RIGHT, first=7)], [replace(one, region=RIGHT), replace(other, region=LEFT)], [one]):
        assert np.abs(image - drawn(stable, changed)).max() > 1e-3
    swapped = drawn(stable, [other, one])  # the order that they are given in is no place
    np.testing.assert_allclose(image, swapped, atol=1e-5)


def test_people_of_a_batch_are_drawn_as_alone(stable: Any) -> None:
    """Each image of the batch has regions and people of its own; what has other rows has a batch of its own."""
    pairs = [placed(stable, LEFT, RIGHT), placed(stable, RIGHT, LEFT, first=4), placed(stable, LEFT, Region(), first=7)]
    pairs.append([*placed(stable, LEFT, first=9, rows=2), *placed(stable, RIGHT, first=10)])
    requests = [Request(None, PROMPT, seed, people=people) for seed, people in enumerate(pairs)]
    requests.append(Request(random_identity(stable, 3, 2), PROMPT, 9))
    together = [sample.pixels.astype(int) for sample in generate(stable, requests, FEW_STEPS)]
    again = [sample.pixels for sample in generate(stable, requests, FEW_STEPS)]
    for image, repeated, request in zip(together, again, requests, strict=True):
        assert np.array_equal(image, repeated)
        (alone,) = generate(stable, [request], FEW_STEPS)
        assert np.abs(image - alone.pixels).max() <= 1


def test_guidance_is_away_from_nobody_in_the_same_regions(stable: Any) -> None:
    people = placed(stable, LEFT, RIGHT)
    with stable.applied([combine_people(people)]) as embeddings, torch.no_grad():
        batch = SamplingBatch(stable, PLAIN, [PROMPT], [5], embeddings, regions=BatchRegions.of([people]))
        terms = prompt_and_person(batch, Guidance(2.0, 1.0))
        for term in (UNCONDITIONAL, TEXT_ONLY):
            assert torch.equal(terms[term].image_embeddings, stable.unconditional_like(embeddings))
            assert terms[term].regions is terms[CONDITIONAL].regions
        assert torch.equal(terms[CONDITIONAL].image_embeddings, embeddings)
        assert embeddings.shape[:2] == (1, 2)


def test_larger_sizes_and_start_images_keep_the_regions(stable: Any) -> None:
    """A second pass has its own latents, of odd sizes too."""
    people, start = placed(stable, LEFT, RIGHT), StartImage(np.full((16, 16, 3), 99, np.uint8), 0.5)
    requests = [Request(None, PROMPT, seed, start, people=people) for seed in (1, 2)]
    for hires in (None, HiresConfig(40, 24, 0.5), HiresConfig(32, 32)):
        samples = list(generate(stable, requests, FEW_STEPS, hires=hires))
        size = Size(16, 16) if hires is None else hires.size
        for sample in samples:
            assert sample.pixels.shape == (size.height, size.width, 3)
            if hires is not None:
                assert sample.settings["face_strength"] == 0  # nobody's face is made again
        assert not np.array_equal(samples[0].pixels, samples[1].pixels)


# Records


def test_a_png_says_where_people_are_and_not_who(stable: Any, tmp_path: Path) -> None:
    request = Request(None, PROMPT, 5, people=placed(stable, LEFT, Region(mask=np.full((4, 4), 255, np.uint8))))
    (sample,) = generate(stable, [request], FEW_STEPS)
    save_sample(sample, tmp_path / "a.png")
    metadata = read_sample(tmp_path / "a.png")
    box, mask = metadata["people"]
    assert box == {"box": [0.0, 0.0, 0.5, 1.0]}
    assert len(mask["mask_sha256"]) == 64
    assert metadata.items() >= expected_metadata(stable, request, FEW_STEPS).items()
    assert (metadata["method"], metadata["backend"]) == ("ip-adapter", "torch")


def test_openvino_leaves_regions_to_torch(stable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Compiled:
        def precision(self, wanted: str) -> str:
            return wanted

        def predict(self, *given: object) -> None:
            raise AssertionError(given)

        decode = predict

    people = placed(stable, LEFT, RIGHT)
    (expected,) = generate(stable, [Request(None, PROMPT, 5, people=people)], FEW_STEPS)
    monkeypatch.setattr(stable, "compiled", Compiled())
    (sample,) = generate(stable, [Request(None, PROMPT, 5, people=people)], FEW_STEPS)
    assert np.array_equal(sample.pixels, expected.pixels)
    assert sample.settings["backend"] == "torch"
    with pytest.raises(AssertionError):
        next(generate(stable, [Request(people[0].identity, PROMPT, 5)], FEW_STEPS))


# What cannot be


def test_what_cannot_be_in_one_image_is_refused(stable: Any, toy_model: Any) -> None:
    one, other = placed(stable, LEFT, RIGHT)
    assert one.identity.embeddings is not None
    weighed = replace(one.identity, weights={"unet.a": torch.ones(1)})
    with pytest.raises(IdentityError, match="weights, which act everywhere"):
        PlacedPerson(weighed, LEFT)
    with pytest.raises(IdentityError, match="weights, which act everywhere"):
        PlacedPerson(Identity("dreambooth", "m", "", ""), LEFT)
    foreign = replace(other, identity=replace(other.identity, adapter="other@0"))
    with pytest.raises(IdentityError, match="2 models or adapters in one image"):
        Request(None, PROMPT, 5, people=[one, foreign])
    with pytest.raises(DataError, match="an identity and with people"):
        Request(one.identity, PROMPT, 5, people=[one, other])

    people = [one, other]
    wide = [one, replace(other, region=Region(mask=np.full((4, 8), 255, np.uint8)))]
    masked = StartImage(np.zeros((16, 16, 3), np.uint8), 0.5, np.full((16, 16), 255, np.uint8))
    cases = [
        (Request(None, PROMPT, 5, people=wide), None, "has 8x4 pixels"),
        (Request(None, PROMPT, 5, people=people), HiresConfig(32, 32, face_detailer=True), "does not know whose"),
        (Request(None, PROMPT, 5, masked, people=people), None, "moves with the mask"),
    ]
    for request, hires, said in cases:
        with pytest.raises(DataError, match=said):
            next(generate(stable, [request], FEW_STEPS, hires=hires))
    with pytest.raises(DataError, match="one aligned face"):
        next(generate(toy_model, [Request(None, PROMPT, 5, people=placed(toy_model, LEFT, RIGHT))], FEW_STEPS))


def test_photos_of_all_people_are_recorded_with_their_weights(stable: Any) -> None:
    one, other = placed(stable, LEFT, RIGHT)
    one = replace(one, identity=replace(one.identity, photos=("a", "b"), photo_weights=(1.0, 0.5)))
    other = replace(other, identity=replace(other.identity, photos=("c",), method="ip-adapter-avg"))
    together = Request(None, PROMPT, 5, people=[one, other]).identity
    assert together is not None
    assert (together.photos, together.photo_weights) == (("a", "b", "c"), (1.0, 0.5, 1.0))
    assert together.method == "ip-adapter, ip-adapter-avg"
