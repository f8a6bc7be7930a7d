"""A trained aggregator from its recipe to an image: what learns, what is written, what others load."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tenth.cli.main import main
from tenth.core.cache import ArrayCache
from tenth.core.config import from_table, read_toml
from tenth.core.errors import CheckpointError, InputError, ModelError, RecipeError
from tenth.core.types import Person, Photo, Score
from tenth.methods.registry import method
from tenth.models.pipelines import load_pipeline
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.training.adapter.synthetic_data import SyntheticPeople
from tenth.training.adapter.trainer import AdapterRecipe, train_adapter
from tenth.training.monitoring import append_history, read_history
from tenth.training.registry import stage
from tenth.training.schedule import TrainingConfig
from tenth.training.state import ema_weights
from toy_drawing import centred_noise

ROOT = Path(__file__).resolve().parents[2]
TOY = SyntheticPeople(num_people=3, photos_per_person=11)
SHORT = TrainingConfig(
    total_images=12, batch_size=4, warmup_images=4, ema_halflife_images=8, checkpoint_every_images=8, learning_rate=1e-2
)


def hashes(model: Any) -> dict[str, str]:
    parts = {"unet": model.pipeline.unet, "text": model.pipeline.text_encoder, "vae": model.pipeline.vae}
    return {
        f"{part}.{name}": hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
        if "_ip." not in name and "encoder_hid_proj" not in name
    }


def person(count: int) -> Person:
    return Person(
        "anna", tuple(Photo(np.zeros((1, 1, 3), np.uint8), f"{number:064x}", f"{number}.png") for number in range(count))
    )


class FakeEncoder:
    """Photos whose embedding follows from their digest."""

    def __init__(self, name: str) -> None:
        self.name, self.embedding_dim, self.num_tokens = name, 128, 0
        self.crops_faces, self.dlib_mean = False, None

    def null_embedding(self) -> torch.Tensor:
        return torch.zeros(self.embedding_dim)

    def __call__(self, photos: tuple[Photo, ...]) -> torch.Tensor:
        rows = [torch.randn(128, generator=torch.Generator().manual_seed(int(photo.digest, 16))) for photo in photos]
        return torch.stack(rows)


@pytest.fixture(scope="module")
def trained(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that training wrote, from toy people on the toy model."""
    directory = tmp_path_factory.mktemp("run")
    model = load_pocket(toy_folder, name="toy")
    before = hashes(model)
    train_adapter(AdapterRecipe("attention", synthetic=TOY, schedule=SHORT), model, directory)
    after = hashes(model)
    assert before == {name: after[name] for name in before}  # only adapter and aggregator have moved
    return directory / "final"


@pytest.mark.slow
def test_training_writes_an_adapter_and_an_aggregator_that_have_moved(trained: Path, toy_folder: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {"ip-adapter.safetensors", "aggregator.safetensors"}
    weights, before = (load_file(path / "ip-adapter.safetensors") for path in (trained, toy_folder / "ip-adapter"))
    assert weights.keys() == before.keys()
    assert all(not torch.equal(weights[name], before[name].float()) for name in weights)


def test_the_trained_folder_is_a_method(trained: Path, toy_folder: Path) -> None:
    model = load_pocket(toy_folder, name="toy")
    model.encoder = FakeEncoder(model.encoder.name)
    identity = method(str(trained))(person(4), model).identity
    assert identity.embeddings is not None
    assert identity.embeddings.shape == (9, 128)
    assert identity.adapter != model.adapter_name
    (sample,) = generate(model, [Request(identity, "a photo of a person", 3)], SamplingConfig(steps=2))
    assert sample.pixels.shape == (128, 128, 3)
    assert method(str(trained))(person(4), model).warnings == (
        f"{identity.method} reads 9 photos: the 4 there are, and 5 of them repeated",
    )
    assert "first 9 of 12" in method(str(trained))(person(12), model).warnings[0]


def test_diffusers_loads_the_adapter_and_draws_the_same_image(trained: Path, toy_folder: Path) -> None:
    model = load_pocket(toy_folder, name="toy")
    model.encoder = FakeEncoder(model.encoder.name)
    identity = method(str(trained))(person(9), model).identity
    (ours,) = generate(
        model, [Request(identity, "a photo of a person", 3)], SamplingConfig(3, 2.0, 0.0, text_guidance_scale=0.0)
    )
    pipeline = load_pipeline(toy_folder)
    pipeline.load_ip_adapter(str(trained), subfolder="", weight_name="ip-adapter.safetensors", image_encoder_folder=None)
    assert identity.embeddings is not None
    rows = identity.embeddings[None]
    drawn = pipeline(
        "a photo of a person",
        num_inference_steps=3,
        guidance_scale=2.0,
        ip_adapter_image_embeds=[torch.cat([torch.zeros_like(rows), rows])],
        latents=centred_noise(model, 3),
        output_type="np",
    ).images[0]
    assert np.abs(np.rint(drawn * 255) - ours.pixels).max() == 0


def test_the_aggregator_may_learn_alone_on_embeddings(toy_folder: Path, tmp_path: Path) -> None:
    table = {
        "aggregator": "set",
        "synthetic": {"num_people": 4, "photos_per_person": 5},
        "references": {"min_photos": 1},
        "embedding_pretraining": {
            "schedule": {"total_images": 32, "batch_size": 8},
            "loss": {"infonce_weight": 0.0, "references": {"min_photos": 1}},
        },
    }
    model = load_pocket(toy_folder, name="toy")
    train_adapter(from_table(AdapterRecipe, table), model, tmp_path)
    assert [path.name for path in (tmp_path / "final").iterdir()] == ["aggregator.safetensors"]
    model = load_pocket(toy_folder, name="toy")
    model.encoder = FakeEncoder(model.encoder.name)
    learnt = method(str(tmp_path / "final"))
    result = learnt(person(3), model)
    assert result.identity.adapter == model.adapter_name
    weights = result.photo_weights
    assert weights is not None
    assert float(weights.sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"synthetic": TOY, "aggregator": "sett"}, "aggregator is 'sett'; needed: 'attention' or 'set'"),
        ({"synthetic": TOY, "trainable": ("encoder",)}, "trainable.0 is 'encoder'; needed: 'aggregator' or 'adapter'"),
        ({}, "neither .data. nor encoded nor .synthetic."),
        ({"synthetic": TOY, "schedule": None}, "at least one of them"),
    ],
)
def test_an_impossible_recipe_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        AdapterRecipe(**{"aggregator": "attention", "schedule": SHORT, **wrong})


def test_every_recipe_reads() -> None:
    paths = [path for path in sorted((ROOT / "recipes").glob("*.toml")) if "stage" in read_toml(path)]
    assert len(paths) >= 5
    for path in paths:
        table = read_toml(path)
        from_table(stage(table, path.name).recipe, table, path.name)


def test_another_encoder_or_adapter_is_refused(trained: Path, toy_folder: Path) -> None:
    model = load_pocket(toy_folder, name="toy")
    model.encoder = FakeEncoder("other@0")
    with pytest.raises(ModelError, match="other@0"):
        method(str(trained))(person(2), model)
    model.encoder.name, model.encoder.embedding_dim = load_pocket(toy_folder).encoder.name, 64
    with pytest.raises(ModelError, match="64"):
        method(str(trained))(person(2), model)
    with pytest.raises(ModelError, match="reads 128 numbers, where the image encoder gives 64"):
        model.add_adapter(trained / "ip-adapter.safetensors")


def people_file(folder: Path, counts: dict[str, int]) -> dict[str, str]:
    """A people.jsonl of train people with so many of the example photos each."""
    photos, rows = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png")), []
    for name, count in counts.items():
        for number in range(count):
            (folder / name).mkdir(exist_ok=True)
            path = folder / name / f"{number}.png"
            path.write_bytes(photos[number].read_bytes())
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            said = {"file": f"{name}/{number}.png", "person": name, "split": "train", "fold": 1, "digest": digest}
            rows.append(said | {"caption": "a photo of a person", "captions": ["a photo of a person"]})
    (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"people": str(folder / "people.jsonl"), "photos": str(folder)}


@pytest.mark.slow
def test_photos_are_read_once_and_too_few_are_said(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    table = {"aggregator": "set", "data": people_file(tmp_path, {"anna": 3, "bert": 2}), "references": {"min_photos": 1}}
    schedule = {"total_images": 4, "batch_size": 2, "warmup_images": 0}
    recipe = from_table(AdapterRecipe, table | {"schedule": schedule})
    train_adapter(recipe, load_pocket(toy_folder, name="toy"), tmp_path / "one")
    monkeypatch.setattr("tenth.models.encoders.dlib_face.face_descriptor", lambda *_: pytest.fail("a frozen encoder ran again"))
    train_adapter(recipe, load_pocket(toy_folder, name="toy"), tmp_path / "two")
    one, two = (load_file(tmp_path / name / "final/aggregator.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)

    alone = from_table(AdapterRecipe, {**table, "schedule": schedule, "references": {"min_photos": 9}})
    with pytest.raises(InputError, match="none has more than 3; at least 10 photos"):
        train_adapter(alone, load_pocket(toy_folder, name="toy"), tmp_path / "three")
    assert not list((tmp_path / "three").glob("step-*"))

    stored = next((tmp_path / "store").glob("moments-*/*/*.npy"))
    store, entry = ArrayCache(tmp_path / "store"), (stored.parent.parent.name, stored.stem)
    store.write(*entry, np.full_like(store.read(*entry), np.nan))
    with pytest.raises(InputError, match=r"(anna|bert)/\d.png has latent_moments that are not finite"):
        train_adapter(recipe, load_pocket(toy_folder, name="toy"), tmp_path / "four")


def test_the_command_line_trains_stops_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('stage = "adapter"\naggregator = "attention"\nagregator = 1\n')
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 1
    assert "'agregator' is not a key; known keys: aggregator, data, encoded, synthetic" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_history_marks_the_best_and_forgets_what_a_kill_left(tmp_path: Path) -> None:
    strip = [np.zeros((4, 4, 3), np.uint8)] * 2
    assert append_history(tmp_path, 10, Score(0.2), strip)
    assert not append_history(tmp_path, 20, Score(0.1), strip)
    assert append_history(tmp_path, 30, Score(0.3), strip)
    assert append_history(tmp_path, 20, Score(0.25), strip)  # resumed at 10: 30 has not happened
    assert [(line["images"], line["best"]) for line in read_history(tmp_path)] == [(10, True), (20, True)]


def test_no_face_in_any_image_is_better_than_a_negative_similarity(tmp_path: Path) -> None:
    strip = [np.zeros((8, 8, 3), np.uint8)]
    similarities = (None, 0.0, -0.02, 0.0, 0.01)
    found = [append_history(tmp_path, 10 * number, Score(each), strip) for number, each in enumerate(similarities, 1)]
    assert found == [False, True, False, False, True]
    (tmp_path / "validation.jsonl").write_text('{"images": 10}\n')
    with pytest.raises(CheckpointError, match="says nothing in line 1"):
        read_history(tmp_path)


def test_averaged_weights_go_in_and_the_trained_ones_come_back() -> None:
    module = torch.nn.Linear(3, 2)
    before = module.weight.detach().clone()
    with ema_weights({"m": module}, {"m.weight": torch.zeros(2, 3)}):
        assert not module.weight.any()
    assert torch.equal(module.weight, before)
