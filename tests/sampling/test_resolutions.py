"""Sizes of pictures: what is drawn at once, what in several passes, what cannot be."""

from __future__ import annotations

import pytest

from tenth.core.errors import DataError
from tenth.sampling.passes.resolutions import (
    SDXL_BUCKETS,
    Size,
    near_square_sizes,
    parse_size,
    plan_resolution,
    sdxl_sizes,
    single_square,
)

SD15, SDXL, POCKET = (near_square_sizes(512), 512), (sdxl_sizes(1024), 1024), (single_square(128), 128)


@pytest.mark.parametrize(("text", "wanted"), [("512", Size(512, 512)), ("832x1216", Size(832, 1216)), (" 64X8 ", Size(64, 8))])
def test_a_size_is_a_side_or_two(text: str, wanted: Size) -> None:
    assert parse_size(text) == wanted


@pytest.mark.parametrize("text", ["", "x", "512x", "512*512", "-8", "8.0", "512x512x512", "999999", "½", "1e3"])
def test_other_texts_are_no_size(text: str) -> None:
    with pytest.raises(DataError, match="a side such as 512, or WIDTHxHEIGHT"):
        parse_size(text)


@pytest.mark.parametrize(("text", "nearest"), [("500", "496x496"), ("512x515", "512x512"), ("0", "8x8"), ("3x64", "8x64")])
def test_a_side_is_a_multiple_of_eight(text: str, nearest: str) -> None:
    with pytest.raises(DataError, match=f"multiples of 8, more than 0. Choose {nearest}, say"):
        parse_size(text)


@pytest.mark.parametrize(("model", "text"), [(POCKET, "128"), (SD15, "512"), (SD15, "512x640"), (SD15, "640x384"), (SDXL, "1024"), (SDXL, "832x1216"), (SDXL, "1216x832"), (SDXL, "2048x512")])  # fmt: skip # noqa: E501
def test_trained_sizes_are_drawn_at_once(model: tuple[list[Size], int], text: str) -> None:
    found = plan_resolution(parse_size(text), *model)
    assert (found.base, found.hires_sizes, found.final) == (parse_size(text), (), parse_size(text))
    assert str(found) == f"{parse_size(text)}: generated in one pass"


@pytest.mark.parametrize(
    ("model", "text", "said"),
    [
        (POCKET, "256", "256x256: generated at 128x128, then generated again at 256x256"),
        (POCKET, "512", "512x512: generated at 128x128, then generated again at 256x256, generated again at 512x512"),
        (POCKET, "96", "96x96: generated at 128x128, then reduced"),
        (
            POCKET,
            "256x192",
            "256x192: generated at 128x128, then generated again at 256x192, filled left and right",
        ),
        (
            SD15,
            "768x256",
            "768x256: generated at 640x312, then generated again at 768x256, filled left and right",
        ),
        (SD15, "1024", "1024x1024: generated at 512x512, then generated again at 1024x1024"),
        (SD15, "512x768", "512x768: generated at 416x624, then generated again at 512x768"),
        (SD15, "2048", "2048x2048: generated at 512x512, then generated again at 1024x1024, generated again at 2048x2048"),
        (SD15, "1536x1024", "1536x1024: generated at 624x416, then generated again at 768x512, generated again at 1536x1024"),
        (SD15, "256", "256x256: generated at 512x512, then reduced"),
        (SDXL, "1664x2432", "1664x2432: generated at 832x1216, then generated again at 1664x2432"),
        (
            SDXL,
            "1920x1080",
            "1920x1080: generated at 1344x768, then generated again at 1920x1080, 2% of it cut off at the edges",
        ),
    ],
)
def test_other_sizes_come_from_the_trained_size_of_the_nearest_shape(
    model: tuple[list[Size], int], text: str, said: str
) -> None:
    assert str(plan_resolution(parse_size(text), *model)) == said


def test_the_image_that_is_shown_whole_counts_for_how_large_a_size_may_be() -> None:
    assert str(plan_resolution(Size(512, 768), *POCKET, refine=False)) == (
        "512x768: generated at 128x128, then enlarged, filled above and below"
    )


def test_without_a_second_pass_a_size_is_enlarged() -> None:
    found = plan_resolution(Size(256, 256), *POCKET, refine=False)
    assert found.passes == ["128x128"]
    assert str(found) == "256x256: generated at 128x128, then enlarged"


@pytest.mark.parametrize(("model", "text"), [(POCKET, "520"), (SD15, "2560"), (SDXL, "4104")])
def test_a_size_far_above_the_trained_one_is_refused(model: tuple[list[Size], int], text: str) -> None:
    with pytest.raises(DataError, match="at most 4 times is possible"):
        plan_resolution(parse_size(text), *model)


def test_sdxls_sizes_are_forty_and_the_square_near_a_million_pixels() -> None:
    assert sum(map(len, SDXL_BUCKETS.values())) == 21
    assert len(sdxl_sizes(1024)) == 41
    assert all(size.width % 64 == size.height % 64 == 0 for size in sdxl_sizes(1024))
    assert all(0.87 < size.area / 1024**2 <= 1 for size in sdxl_sizes(1024))


@pytest.mark.parametrize("side", [512, 768])
def test_about_a_square_no_side_is_more_than_a_quarter_longer(side: int) -> None:
    assert max(max(size.width, size.height) for size in near_square_sizes(side)) == side * 5 // 4
    assert Size(side, side) in near_square_sizes(side)
