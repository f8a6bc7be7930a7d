from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from tenth.core.errors import ModelError
from tenth.core.types import Features, Pixels
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.evaluation.extractors.clip_score import ClipScorer
from tenth.evaluation.metrics.prompt_alignment import AttributePromptScorer, prompt_adherence, prompt_retrieval
from tenth.evaluation.registry import metrics_for
from tenth.models.pocket.paths import MODEL_DIR

SMILE, HAT, PLAIN = "a photo of a smiling person", "a person wearing a hat", "a photo of a person"


class Painted:
    """Reads from a picture's first pixels what a test painted there: 255 is yes, 0 is no."""

    name, feature_dim = "painted@0", len(FACE_ATTRIBUTES)

    def __call__(self, pictures: Sequence[Pixels], /) -> np.ndarray:
        return np.stack([picture[0, : self.feature_dim, 0] / 25.5 - 5 for picture in pictures]).astype(float)


def picture(*signs: str) -> Pixels:
    pixels = np.zeros((8, 32, 3), np.uint8)
    pixels[0, [FACE_ATTRIBUTES.index(sign) for sign in signs], 0] = 255
    return pixels


def seen(reader: AttributePromptScorer, *images: tuple[str, str, Pixels]) -> Features:
    people, prompts, pixels = zip(*images, strict=True)
    return Features(reader(pixels), people, prompts)


def test_everything_asked_for_is_there_or_nothing_or_half() -> None:
    reader = AttributePromptScorer(Painted(), FACE_ATTRIBUTES)
    found = seen(
        reader,
        ("a", SMILE, picture("smiling")),
        ("b", HAT, picture("smiling")),
        ("c", "a smiling man", picture("smiling")),
        ("c", PLAIN, picture()),
    )
    score = prompt_adherence(found, reader)
    assert score.value == pytest.approx((1 + 0 + 0.5) / 3)
    assert score.n == 3
    assert [row.name for row in metrics_for(reader.kind)] == ["attribute-accuracy", "attribute-r-precision"]
    assert prompt_adherence(seen(reader, ("a", "a serious person", picture())), reader).value == 1  # a no, and it is not there


def test_the_own_prompt_fits_best_and_ties_share() -> None:
    reader = AttributePromptScorer(Painted(), FACE_ATTRIBUTES)
    right = seen(reader, ("a", SMILE, picture("smiling")), ("a", HAT, picture("hat")))
    wrong = seen(reader, ("a", SMILE, picture("hat")), ("a", HAT, picture("smiling")))
    same = seen(reader, *((who, prompt, picture("smiling", "hat")) for who in "ab" for prompt in (SMILE, HAT)))
    assert [prompt_retrieval(each, reader).value for each in (right, wrong, same)] == [1, 0, 0.5]
    more = seen(reader, ("a", SMILE, picture("smiling")), ("a", HAT, picture("hat")), ("a", PLAIN, picture()))
    assert prompt_retrieval(more, reader).value == 1  # what asks for nothing is no candidate


def test_attributes_that_are_not_read_on_real_photos_are_not_judged() -> None:
    reader = AttributePromptScorer(Painted(), ("smiling",))
    found = seen(reader, ("a", "a smiling person wearing a hat", picture("smiling")), ("b", HAT, picture()))
    assert prompt_adherence(found, reader).value == 1
    nothing = prompt_adherence(seen(reader, ("a", HAT, picture("hat"))), reader)
    assert nothing.value is None
    assert "no prompt asks" in nothing.unavailable
    assert "fewer than two" in prompt_retrieval(found, reader).unavailable


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of the published layout, small and random, with the pocket model's tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=386, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, eos_token_id=385, bos_token_id=384, pad_token_id=385,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    for file in (MODEL_DIR / "tokenizer").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_clip_scores_are_those_of_the_model_itself(clip_folder: Path) -> None:
    reader = ClipScorer(clip_folder)
    pictures = [np.full((40, 40, 3), shade, np.uint8) for shade in (0, 128, 255)]
    rows = reader(pictures)
    assert rows.shape == (3, 16)
    prompts = [SMILE, HAT, SMILE]
    pixels = reader.processor(pictures, return_tensors="pt", input_data_format="channels_last").pixel_values
    tokens = reader.tokenizer([SMILE, HAT], padding=True, return_tensors="pt")
    with torch.no_grad():
        whole = reader.model(pixel_values=pixels, **tokens)
    cosines = (whole.logits_per_image / reader.model.logit_scale.exp()).numpy()  # (3, 2)
    np.testing.assert_allclose(reader.score_matrix(rows, [SMILE, HAT]), cosines, atol=1e-5)
    wanted = 2.5 * np.maximum(cosines[[0, 1, 2], [0, 1, 0]], 0)
    np.testing.assert_allclose(reader.adherence(rows, prompts), wanted, atol=1e-5)
    score = prompt_adherence(Features(rows, ("a", "a", "b"), tuple(prompts)), reader)
    assert score.n == 2
    assert prompt_retrieval(Features(rows, ("a", "a", "b"), tuple(prompts)), reader).n == 2
    assert [row.name for row in metrics_for(reader.kind)] == ["clip-score", "clip-r-precision"]


def test_a_folder_without_a_whole_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a CLIP model with its text encoder is needed"):
        ClipScorer(tmp_path)
