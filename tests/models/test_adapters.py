"""IP-Adapters of every published layout on toy models of both families: the same images as diffusers, and never two people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from tenth.cli.main import main
from tenth.core.errors import IdentityError, ModelError
from tenth.core.types import Identity, Person, Photo
from tenth.methods.identity_file import load_identity, save_identity
from tenth.methods.registry import METHODS, method
from tenth.models.adapters.ip_adapter import install_ip_adapter, ip_adapter_state_dict, load_ip_adapter, save_ip_adapter
from tenth.models.encoders.clip import ClipEncoder
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.pipelines import load_pipeline
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.people import BatchRegions, PlacedPerson, Region, combine_people
from tenth.sampling.sampler import SamplingBatch, sample_float
from tenth.training.adapter.synthetic_data import SyntheticPeople
from tenth.training.adapter.trainer import AdapterRecipe, train_adapter
from tenth.training.schedule import TrainingConfig
from toy_adapters import toy_adapters
from toy_drawing import diffusers_arguments

PROMPT = "a photo of a person"
FEW = SamplingConfig(steps=2, guidance_scale=3.0, guidance_rescale=0.0, ip_adapter_scale=0.8)
KINDS = ("ip-adapter", "ip-adapter-plus", "ip-adapter-full")
POOLING = [name for name, entry in METHODS.items() if name.startswith("ip-adapter") and "learn" not in entry.description and "trained" not in entry.description]  # fmt: skip # noqa: E501

Images = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(stable_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model with an adapter of each kind in it, whose pooled one is also its own."""
    copy = Path(shutil.copytree(stable_folder, tmp_path_factory.mktemp("adapters") / "model"))
    vision = json.loads((copy / "image_encoder/config.json").read_text()) | {"patch_size": 32}  # 50 tokens, not 785
    torch.manual_seed(1)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)).save_pretrained(copy / "image_encoder")
    family = "sdxl" if (copy / "text_encoder_2").is_dir() else "sd15"
    made = toy_adapters(load_pipeline(copy).unet, family, vision["projection_dim"], vision["hidden_size"])
    for name, tensors in made.items():
        (copy / name).mkdir(exist_ok=True)
        save_file(tensors, copy / name / "ip-adapter.safetensors")
    return copy


def file_of(folder: Path, kind: str) -> Path:
    return folder / kind / "ip-adapter.safetensors"


@cache
def opened(folder: Path, kind: str) -> LatentDiffusion:
    """The model with that adapter, loaded once: no test leaves it changed."""
    return load_model(str(folder), adapter=file_of(folder, kind))


def person(name: str, *seeds: int) -> Person:
    """Photos of big blocks of colour, each of its seed."""
    blocks = [np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8) for seed in seeds]
    return Person(name, tuple(Photo(each.repeat(60, 0).repeat(60, 1), f"{seed:064x}") for seed, each in zip(seeds, blocks, strict=True)))  # fmt: skip # noqa: E501


def ours(model: LatentDiffusion, identities: Sequence[Identity], seed: int = 3) -> Images:
    """Images (B, H, W, 3) in [0, 1], before they are rounded."""
    with model.applied(identities) as embeddings:
        count = len(identities)
        return np.stack(sample_float(SamplingBatch(model, FEW, [PROMPT] * count, [seed] * count, embeddings)))


def theirs(folder: Path, kind: str, people: Sequence[Person], seed: int = 3, **more: Any) -> Images:
    """The same by diffusers alone, from photo to image. more: arguments of its call."""
    pipeline = load_pipeline(folder)
    pipeline.register_modules(feature_extractor=CLIPImageProcessorPil())  # torchvision's resizes to other pixels
    pipeline.load_ip_adapter(str(folder), subfolder=kind, weight_name="ip-adapter.safetensors", image_encoder_folder="./image_encoder")  # fmt: skip # noqa: E501
    pipeline.set_ip_adapter_scale(FEW.ip_adapter_scale)
    photos = [[Image.fromarray(photo.pixels) for each in people for photo in each.photos]]
    arguments = diffusers_arguments([PROMPT] * len(people), [seed] * len(people), FEW) | more
    drawn: Images = np.stack(pipeline(**arguments, ip_adapter_image=photos).images)
    return drawn


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_and_we_draw_the_same_image_of_one_person(folder: Path, kind: str) -> None:
    model, anna = opened(folder, kind), person("anna", 1)
    image = ours(model, [method("ip-adapter")(anna, model).identity])
    np.testing.assert_allclose(image, theirs(folder, kind, [anna]), atol=1e-4)
    other = ours(model, [method("ip-adapter")(person("bert", 2), model).identity])
    assert np.abs(image - other).max() > 1e-2  # the adapter is seen


@pytest.mark.parametrize("kind", KINDS)
def test_several_photos_side_by_side_are_diffusers_list_of_photos(folder: Path, kind: str) -> None:
    model, anna = opened(folder, kind), person("anna", 1, 2, 4)
    image = ours(model, [method("ip-adapter-concat")(anna, model).identity])
    np.testing.assert_allclose(image, theirs(folder, kind, [anna]), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_two_people_in_one_batch_are_each_drawn_alone_where_diffusers_mixes_them(folder: Path, kind: str) -> None:
    model, people = opened(folder, kind), [person("anna", 1), person("bert", 2)]
    identities = [method("ip-adapter")(each, model).identity for each in people]
    alone = np.concatenate([ours(model, [each]) for each in identities])
    np.testing.assert_allclose(ours(model, identities), alone, atol=1e-4)
    mixed = theirs(folder, kind, people)
    assert all(np.abs(mixed[row] - alone[row]).max() > 1e-3 for row in (0, 1))
    np.testing.assert_allclose(mixed[0], mixed[1], atol=1e-4)  # each image sees both, so that both are one picture


@pytest.mark.parametrize("kind", KINDS)
def test_people_in_halves_are_diffusers_own_masks_where_these_are_right(folder: Path, kind: str) -> None:
    """One row a person, no overlap, masks of four times the latents' size: its filter then sees no neighbours of a cell."""
    model, pair = opened(folder, kind), [person("anna", 1), person("bert", 2)]
    regions = Region.parse("left"), Region.parse("right")
    people = [PlacedPerson(method("ip-adapter")(who, model).identity, at) for who, at in zip(pair, regions, strict=True)]
    with model.applied([combine_people(people)]) as embeddings:
        batch = SamplingBatch(model, FEW, [PROMPT], [3], embeddings, regions=BatchRegions.of([people]))
        image = np.stack(sample_float(batch))
    together = Person("both", pair[0].photos + pair[1].photos)
    masks = torch.stack([region.coverage(32, 32) for region in regions])[None]
    diffusers_image = theirs(folder, kind, [together], cross_attention_kwargs={"ip_adapter_masks": [masks]})
    np.testing.assert_allclose(image, diffusers_image, atol=1e-4)
    assert np.abs(image - theirs(folder, kind, [together])).max() > 1e-3  # regions are seen


def test_another_number_of_tokens_is_drawn_where_diffusers_refuses_to_load(folder: Path) -> None:
    model, anna = opened(folder, "seven-tokens"), person("anna", 1)
    identity = method("ip-adapter")(anna, model).identity
    with model.applied([identity]):
        tokens = model.pipeline.unet.encoder_hid_proj([identity.embeddings[None]])[0]
        assert tokens.shape == (1, 1, 7, model.pipeline.unet.config.cross_attention_dim)
        exported = ip_adapter_state_dict(model.pipeline.unet)
    weights = load_file(file_of(folder, "seven-tokens"))
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[name], weights[name]) for name in weights)
    assert np.abs(ours(model, [identity]) - ours(model, [method("ip-adapter")(person("bert", 2), model).identity])).max() > 1e-2
    with pytest.raises((RuntimeError, ValueError)):
        theirs(folder, "seven-tokens", [anna])


@pytest.mark.parametrize("kind", KINDS)
def test_import_and_export_are_exact_and_diffusers_reads_what_is_exported(folder: Path, kind: str, tmp_path: Path) -> None:
    weights, pipeline = load_file(file_of(folder, kind)), load_pipeline(folder)
    install_ip_adapter(pipeline.unet, load_ip_adapter(file_of(folder, kind)))
    save_ip_adapter(ip_adapter_state_dict(pipeline.unet), tmp_path / "a.safetensors")
    again = load_file(tmp_path / "a.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    plain = load_pipeline(folder)
    plain.load_ip_adapter(str(tmp_path), subfolder="", weight_name="a.safetensors", image_encoder_folder=None)
    installed = pipeline.unet.state_dict()
    assert plain.unet.state_dict().keys() == installed.keys()
    assert all(torch.equal(value, installed[name]) for name, value in plain.unet.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_as_before_when_an_adapter_is_taken_off(folder: Path, kind: str) -> None:
    plain, model = load_pipeline(folder).unet, opened(folder, kind)
    before = {name: value.clone() for name, value in model.pipeline.unet.state_dict().items()}
    assert before.keys() == plain.state_dict().keys()
    identity = method("ip-adapter")(person("anna", 1), model).identity
    with pytest.raises(ZeroDivisionError), model.applied([identity]):
        _ = 1 / 0
    after = model.pipeline.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert model.pipeline.unet.attn_processors.keys() == plain.attn_processors.keys()
    drawn = model.pipeline(**diffusers_arguments([PROMPT], [0], FEW)).images
    np.testing.assert_array_equal(drawn, load_pipeline(folder)(**diffusers_arguments([PROMPT], [0], FEW)).images)


@pytest.mark.parametrize("name", POOLING)
def test_photos_are_pooled_place_by_place_and_the_method_says_so(folder: Path, name: str, tmp_path: Path) -> None:
    model = opened(folder, "ip-adapter-plus")
    tokens, width = model.encoder.num_tokens, model.encoder.embedding_dim
    assert (tokens, width) == (50, 16)
    one, three = (method(name)(person("anna", *seeds), model).identity for seeds in ((1,), (1, 2, 4)))
    assert three.embeddings is not None
    assert three.embeddings.shape == (3 if name == "ip-adapter-concat" else 1, tokens, width)
    copies = method(name)(person("anna", 1, 1, 1), model).identity
    np.testing.assert_allclose(ours(model, [one]), ours(model, [copies]), atol=1e-4)
    turned = method(name)(person("anna", 4, 1, 2), model).identity
    same = np.abs(ours(model, [three]) - ours(model, [turned])).max() < 1e-4
    assert same == (name != "ip-adapter")
    (note,) = method(name)(person("anna", 1, 2, 4), model).warnings
    assert "the other 2 are not used" in note if name == "ip-adapter" else f"acts on the {tokens} patch tokens" in note
    assert method(name)(person("anna", 1), model).warnings == ()
    save_identity(three, tmp_path / "me.safetensors")
    kept = load_identity(tmp_path / "me.safetensors")
    assert kept.embeddings is not None
    assert torch.equal(kept.embeddings, three.embeddings)
    requests = [Request(kept, PROMPT, 1), Request(replace(kept), PROMPT, 2)]
    assert len(list(generate(model, requests, FEW))) == 2


def test_what_is_pooled_place_by_place_is_each_place_s_own(folder: Path) -> None:
    model = opened(folder, "ip-adapter-plus")
    rows = model.encoder(person("anna", 1, 2, 4).photos)  # (3, T, D)
    made = {name: method(name)(person("anna", 1, 2, 4), model).identity.embeddings for name in POOLING}
    torch.testing.assert_close(made["ip-adapter-avg"], rows.mean(0, keepdim=True))
    torch.testing.assert_close(made["ip-adapter-max"], rows.max(0, keepdim=True).values)
    weights = method("ip-adapter-consensus")(person("anna", 1, 2, 4), model).photo_weights
    assert weights is not None
    assert made["ip-adapter-consensus"] is not None
    torch.testing.assert_close(made["ip-adapter-consensus"].norm(dim=-1)[0], rows.norm(dim=-1).mean(0))
    summed = (weights[:, None, None] * rows.double()).sum(0)
    cosines = torch.nn.functional.cosine_similarity(summed, made["ip-adapter-consensus"][0].double(), dim=-1)
    torch.testing.assert_close(cosines, torch.ones_like(cosines))


def test_nobody_is_what_the_encoder_sees_in_zeros_and_is_computed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(folder, "ip-adapter-plus")
    with torch.no_grad():
        seen = model.encoder.model(torch.zeros(1, 3, 224, 224), output_hidden_states=True)  # type: ignore[attr-defined]
    torch.testing.assert_close(model.encoder.null_embedding(), seen.hidden_states[-2][0])
    monkeypatch.setattr(ClipEncoder, "_encode", None)
    assert model.encoder.null_embedding().shape == (50, 16)
    assert torch.equal(opened(folder, "ip-adapter").encoder.null_embedding(), torch.zeros(24))


def test_trained_aggregators_are_refused_where_the_adapter_reads_patches(folder: Path, tmp_path: Path) -> None:
    model = opened(folder, "ip-adapter-plus")
    for name in ("ip-adapter-attention", "ip-adapter-set"):
        with pytest.raises(ModelError, match=f"{name} reads one pooled embedding of each"):
            method(name)(person("anna", 1, 2), model)
    schedule = TrainingConfig(total_images=4, batch_size=4, warmup_images=0)
    with pytest.raises(ModelError, match="reads 50 patch tokens of a photo"):
        train_adapter(AdapterRecipe("set", synthetic=SyntheticPeople(2, 10), schedule=schedule), model, tmp_path)


def test_an_identity_of_one_adapter_is_refused_with_another(folder: Path) -> None:
    model, other = opened(folder, "ip-adapter-plus"), opened(folder, "ip-adapter")
    identity = method("ip-adapter")(person("anna", 1), model).identity
    with pytest.raises(IdentityError, match=r"made for encoder clip-pillow-patches@.*--adapter"):
        list(generate(other, [Request(identity, PROMPT, 0)], FEW))
    full_model = opened(folder, "ip-adapter-full")
    with pytest.raises(IdentityError, match="made for adapter"):
        list(generate(full_model, [Request(identity, PROMPT, 0)], FEW))


def test_an_adapter_of_faces_says_that_photos_are_read_as_they_are(folder: Path, tmp_path: Path) -> None:
    shutil.copyfile(file_of(folder, "ip-adapter-plus"), tmp_path / "ip-adapter-plus-face.safetensors")
    model = load_model(str(folder), adapter=tmp_path / "ip-adapter-plus-face.safetensors")
    assert "give photos cropped to the face" in method("ip-adapter")(person("anna", 1), model).warnings[0]


def test_an_encoder_beside_the_adapter_is_the_one_that_it_reads(folder: Path, tmp_path: Path) -> None:
    """SDXL's plain adapter reads another CLIP than its Plus one."""
    shutil.copyfile(file_of(folder, "ip-adapter-plus"), tmp_path / "plus.safetensors")
    shutil.copytree(folder / "image_encoder", tmp_path / "image_encoder")
    config = json.loads((tmp_path / "image_encoder/preprocessor_config.json").read_text()) if (tmp_path / "image_encoder/preprocessor_config.json").exists() else {"image_mean": [0.5] * 3}  # fmt: skip # noqa: E501
    (tmp_path / "image_encoder/preprocessor_config.json").write_text(json.dumps(config))
    assert load_model(str(folder), adapter=tmp_path / "plus.safetensors").encoder.name != opened(folder, "ip-adapter-plus").encoder.name  # fmt: skip # noqa: E501


def test_the_command_line_takes_an_adapter(
    folder: Path, face_photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    (tmp_path / "me").mkdir()
    for photo in face_photos[:2]:
        shutil.copyfile(photo, tmp_path / "me" / photo.name)
    chosen = ["--model", str(folder), "--adapter", str(file_of(folder, "ip-adapter-plus"))]
    made = str(tmp_path / "me.safetensors")
    assert main(["identity", str(tmp_path / "me"), *chosen, "-o", made]) == 0
    assert "acts on the 50 patch tokens of each photo" in capsys.readouterr().err
    draw = ["generate", made, "--prompt", PROMPT, "-n", "1", "--steps", "1"]
    assert main([*draw, *chosen, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/0000.png").is_file()
    assert main(["export", made, *chosen, "-o", str(tmp_path / "for/me.safetensors")]) == 0
    assert (tmp_path / "for/me.ip-adapter.safetensors").read_bytes() == file_of(folder, "ip-adapter-plus").read_bytes()
    assert main([*draw, "--model", str(folder), "-o", str(tmp_path / "other")]) == 1
    assert "--adapter" in capsys.readouterr().err
    assert main([*draw, "--model", str(folder), "--adapter", str(tmp_path / "no.safetensors"), "-o", str(tmp_path / "no")]) == 1
    assert "no.safetensors does not exist" in capsys.readouterr().err
