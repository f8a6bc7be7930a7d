"""FLUX.1 and SD3.5: our loop's images are those of diffusers' own pipelines, of a text and of a person's photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from tenth.core.errors import IdentityError, ModelError, RecipeError
from tenth.core.types import Identity, Person, Photo
from tenth.methods.export import export_embeddings
from tenth.methods.registry import METHODS, method
from tenth.models.families.loader import load_flow_model
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.sampler import SamplingBatch, sample_float
from toy_adapters import instantx_adapter, xlabs_adapter
from toy_families import toy_family
from toy_image_encoders import write_clip, write_siglip

PROMPT, SIDE = "a photo of a person by a window", 64
FEW = SamplingConfig(steps=3, guidance_scale=3.0, guidance_rescale=0.0, ip_adapter_scale=0.8)
POOLING = [name for name in METHODS if name.startswith("ip-adapter") and not hasattr(METHODS[name].value, "folder")]


class Toy:
    """A family's folder, with an adapter's beside it, drawn by us and by diffusers."""

    def __init__(self, name: str, folder: Path, **settings: Any) -> None:
        self.is_flux = name == "flux1"
        self.folder, self.adapter = toy_family(name, folder / "model", **settings), folder / "adapter" / "published.safetensors"
        self.pipeline: Any = (FluxPipeline if self.is_flux else StableDiffusion3Pipeline).from_pretrained(self.folder)
        self.pipeline.set_progress_bar_config(disable=True)
        torch.manual_seed(0)
        if self.is_flux:
            self.encoder, tensors = write_clip(folder / "adapter/image_encoder"), xlabs_adapter(self.pipeline.transformer, 24)
        else:
            self.encoder, tensors = (
                write_siglip(folder / "adapter/image_encoder"),
                instantx_adapter(self.pipeline.transformer, 20),
            )
        save_file(tensors, self.adapter)
        self.model = load_model(self.folder, adapter=self.adapter)

    def ours(self, prompts: Sequence[str], seeds: Sequence[int], embeddings: Any = None) -> Any:
        return np.stack(sample_float(SamplingBatch(self.model, FEW, prompts, seeds, embeddings)))

    def of(self, *identities: Identity, seed: int = 3) -> Any:
        with self.model.applied(identities) as embeddings:
            return self.ours([PROMPT] * len(identities), [seed] * len(identities), embeddings)

    def theirs(self, prompt: str, seed: int, people: Sequence[Person] = (), embeddings: Any = None) -> Any:
        """By diffusers alone, from photos or embeddings to image; of several people, an image of each is asked for."""
        arguments: dict[str, Any] = {"generator": [torch.Generator().manual_seed(seed) for _ in people or [0]]}
        if people:
            photos = [Image.fromarray(photo.pixels) for person in people for photo in person.photos]
            arguments["ip_adapter_image"] = [photos] if self.is_flux else photos  # FLUX.1's: of each adapter
        if embeddings is not None:
            arguments["ip_adapter_image_embeds"] = embeddings
        if people or embeddings is not None:
            self._load_adapter()
        count = len(people) or 1
        size = {"height": SIDE, "width": SIDE, "num_inference_steps": FEW.steps, "guidance_scale": FEW.guidance_scale}
        images = self.pipeline([prompt] * count, output_type="np", **size, **arguments).images
        if people or embeddings is not None:
            self.pipeline.unload_ip_adapter()
        return images

    def _load_adapter(self) -> None:
        where = {"weight_name": self.adapter.name, "subfolder": ""}
        if self.is_flux:
            encoder = {"image_encoder_pretrained_model_name_or_path": str(self.encoder), "image_encoder_dtype": torch.float32}
            self.pipeline.load_ip_adapter(str(self.adapter.parent), **where, **encoder)
            self.pipeline.register_modules(feature_extractor=CLIPImageProcessorPil())  # torchvision's resizes to other pixels
        else:
            self.pipeline.load_ip_adapter(str(self.adapter.parent), **where, image_encoder_folder=str(self.encoder))
            self.pipeline.register_modules(feature_extractor=SiglipImageProcessorPil.from_pretrained(self.encoder))
        self.pipeline.set_ip_adapter_scale(FEW.ip_adapter_scale)


def person(name: str, *seeds: int) -> Person:
    """Photos of big blocks of colour, each of its seed."""
    blocks = [np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8) for seed in seeds]
    photos = [Photo(each.repeat(60, 0).repeat(60, 1), f"{seed:064x}") for seed, each in zip(seeds, blocks, strict=True)]
    return Person(name, tuple(photos))


@pytest.fixture(scope="module", params=["flux1", "sd3"])
def toy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(request.param, tmp_path_factory.mktemp(request.param))


def test_text_alone_is_drawn_as_diffusers_draws_it(toy: Toy) -> None:
    prompts, seeds = [PROMPT, "another"], [3, 4]
    drawn = toy.ours(prompts, seeds)
    assert drawn.shape == (2, SIDE, SIDE, 3)
    for image, prompt, seed in zip(drawn, prompts, seeds, strict=True):
        theirs = toy.theirs(prompt, seed)[0]
        assert np.abs(image - theirs).max() < 1e-4
        assert theirs.std() > 0.01
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01


def test_schnell_has_no_layer_for_the_guidance_scale(tmp_path: Path) -> None:
    schnell = Toy("flux1", tmp_path, guidance_embeds=False)
    assert schnell.model.default_sampling.steps == 4
    assert np.abs(schnell.ours([PROMPT], [3])[0] - schnell.theirs(PROMPT, 3)[0]).max() < 1e-4


def test_one_photo_is_drawn_as_diffusers_draws_it(toy: Toy) -> None:
    anna, bert = person("anna", 1), person("bert", 2)
    image = toy.of(method("ip-adapter")(anna, toy.model).identity)
    assert np.abs(image - toy.theirs(PROMPT, 3, [anna])).max() < 1e-4
    assert np.abs(image - toy.of(method("ip-adapter")(bert, toy.model).identity)).max() > 1e-4  # the adapter is seen
    assert np.abs(image - toy.ours([PROMPT], [3])).max() > 1e-4


@pytest.mark.parametrize("name", POOLING)
def test_every_pooling_takes_nine_photos_in_any_order(toy: Toy, name: str) -> None:
    photos = person("anna", *range(1, 10)).photos
    first = method(name)(Person("anna", photos), toy.model).identity
    again = method(name)(Person("anna", (photos[0], *photos[:0:-1])), toy.model).identity
    assert np.abs(toy.of(first) - toy.of(again)).max() < 1e-5
    assert first.embeddings is not None
    assert len(first.embeddings) == (9 if name == "ip-adapter-concat" else 1)


def test_each_block_has_a_scale_of_its_own(toy: Toy) -> None:
    identity = method("ip-adapter")(person("anna", 1), toy.model).identity

    def drawn(scale: Any) -> Any:
        with toy.model.applied([identity]) as embeddings:
            sampling = replace(FEW, ip_adapter_scale=scale)
            return sample_float(SamplingBatch(toy.model, sampling, [PROMPT], [3], embeddings))[0]

    np.testing.assert_array_equal(drawn(0.0), toy.ours([PROMPT], [3])[0] if toy.is_flux else drawn({"double": [0, 0]}))
    np.testing.assert_array_equal(drawn(0.7), drawn({"double": 0.7}))
    assert np.abs(drawn({"double": [0.7, 0]}) - drawn({"double": [0, 0.7]})).max() > 1e-5
    with pytest.raises(RecipeError, match="the layers with an adapter are double of 2"):
        drawn({"double": [1.0, 1.0, 1.0]})


def test_nine_photos_side_by_side_are_flux1s_list_of_photos(toy: Toy) -> None:
    anna = person("anna", *range(1, 10))
    image = toy.of(method("ip-adapter-concat")(anna, toy.model).identity)
    if toy.is_flux:  # diffusers' SD3 takes one
        assert np.abs(image - toy.theirs(PROMPT, 3, [anna])).max() < 1e-4
    same = person("anna", *[1] * 9)
    one, nine = (toy.of(method(name)(same, toy.model).identity) for name in ("ip-adapter", "ip-adapter-concat"))
    assert np.abs(one - nine).max() < 1e-5


def test_two_people_in_one_batch_are_each_drawn_alone(toy: Toy) -> None:
    people = [person("anna", 1), person("bert", 2)]
    identities = [method("ip-adapter")(each, toy.model).identity for each in people]
    alone = np.concatenate([toy.of(each) for each in identities])
    assert np.abs(toy.of(*identities) - alone).max() < 1e-5
    if toy.is_flux:  # each image sees both, so that both are one picture
        mixed = toy.theirs(PROMPT, 3, people)
        assert np.abs(mixed[0] - mixed[1]).max() < 1e-4
        assert all(np.abs(mixed[row] - alone[row]).max() > 1e-4 for row in (0, 1))


def test_the_model_is_as_before_when_an_identity_is_off(toy: Toy) -> None:
    transformer = toy.model.pipeline.transformer
    before = dict(transformer.attn_processors), list(transformer.state_dict()), set(vars(transformer)), toy.ours([PROMPT], [3])
    identity = method("ip-adapter")(person("anna", 1), toy.model).identity
    with toy.model.applied([identity]):
        assert transformer.attn_processors != before[0]
    with pytest.raises(ZeroDivisionError), toy.model.applied([identity]):
        raise ZeroDivisionError
    assert (dict(transformer.attn_processors), list(transformer.state_dict()), set(vars(transformer))) == before[:3]
    np.testing.assert_array_equal(toy.ours([PROMPT], [3]), before[3])


def test_exported_embeddings_are_drawn_by_diffusers_alone(toy: Toy, tmp_path: Path) -> None:
    identity = method("ip-adapter-consensus")(person("anna", *range(1, 10)), toy.model).identity
    path, adapter = export_embeddings(identity, toy.model, tmp_path / "anna.safetensors")
    assert adapter.read_bytes() == toy.adapter.read_bytes()
    embeddings = load_file(path)["ip_adapter_image_embeds"]
    drawn = toy.theirs(PROMPT, 3, embeddings=[embeddings] if toy.is_flux else embeddings)
    assert np.abs(drawn - toy.of(identity)).max() < 1e-4
    if not toy.is_flux:
        several = method("ip-adapter-concat")(person("anna", 1, 2), toy.model).identity
        with pytest.raises(IdentityError, match="2 photos side by side, which diffusers"):
            export_embeddings(several, toy.model, tmp_path / "several.safetensors")


def test_a_model_without_adapter_and_identities_of_another_are_refused(toy: Toy, tmp_path: Path) -> None:
    plain = load_model(toy.folder)
    anna = person("anna", 1)
    with pytest.raises(ModelError, match="has no adapter"):
        method("ip-adapter")(anna, plain)
    identity = method("ip-adapter")(anna, toy.model).identity
    with pytest.raises(IdentityError, match="an adapter's embeddings"), plain.applied([identity]):
        pass
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(toy.adapter.read_bytes())
    with pytest.raises(ModelError, match="without an image encoder"):
        load_model(toy.folder, adapter=alone)


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["half", "int8", "nf4"])
@pytest.mark.parametrize("name", ["flux1", "sd3"])
def test_t5_computes_in_float32_in_profiles_of_fewer_bits(name: str, profile: str, tmp_path: Path) -> None:
    model = load_flow_model(toy_family(name, tmp_path / "model"), LoadOptions("cpu", profile))
    t5, seen = model.pipeline.text_encoder_2 if name == "flux1" else model.pipeline.text_encoder_3, set()
    if t5.device.type == "meta":  # freed until a prompt comes
        model.text_encoders.ensure()
        t5 = model.pipeline.text_encoder_2 if name == "flux1" else model.pipeline.text_encoder_3
    for layer_name, layer in t5.named_modules():
        if layer_name.endswith(".wo"):
            layer.register_forward_hook(lambda *values: seen.add(values[2].dtype))
    (sample,) = generate(model, [Request(None, PROMPT, 0)], SamplingConfig(steps=1))
    assert sample.pixels.std() > 0
    assert seen == {torch.float32}
