"""IP-Adapters in transformers: FLUX.1's and SD3.5's as diffusers has them, and tenth's own of FLUX.2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from tenth.core.errors import ModelError, RecipeError
from tenth.models.adapters.adapter_scale import set_scale, validate_scale
from tenth.models.adapters.ip_adapter import (
    init_ip_adapter,
    installed_ip_adapter,
    ip_adapter_state_dict,
    load_ip_adapter,
    save_ip_adapter,
    uses_patch_tokens,
    validate_ip_adapter,
)
from tenth.models.adapters.networks import flux1, flux2, sd3
from toy_adapters import instantx_adapter, plus_projection, random_adapter, xlabs_adapter
from toy_t5_families import flux1 as make_flux1
from toy_t5_families import sd3 as make_sd3

POOLED, PATCHES, PATCH_DIM = 24, 5, 20  # numbers of a pooled embedding; patch tokens of a photo, and their numbers
TEXT = 7  # tokens of a prompt


class Toy:
    """A transformer with an adapter's file, and one call of it."""

    def __init__(self, transformer: Any, tensors: Mapping[str, Tensor], folder: Path) -> None:
        self.transformer, self.path = transformer.eval(), folder / "adapter.safetensors"
        save_file(dict(tensors), self.path)
        self.kind = type(transformer).__name__

    @property
    def pipeline(self) -> Any:
        return SimpleNamespace(transformer=self.transformer)

    def photos(self, people: int, count: int, seed: int = 0) -> Tensor:
        """Embeddings (B, M, D) or (B, M, T, D)."""
        shape = (people, count, PATCHES, PATCH_DIM) if self.kind.startswith("SD3") else (people, count, POOLED)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def __call__(self, embeddings: Tensor | None, rows: slice = slice(None), attention_kwargs: Any = None) -> Tensor:
        """The prediction for two images, of which some rows are asked for."""
        generator, config = torch.Generator().manual_seed(1), self.transformer.config
        hidden = torch.randn(2, TEXT, config.joint_attention_dim, generator=generator)[rows]
        pooled = torch.randn(2, 32, generator=generator)[rows]
        timestep = torch.tensor([700.0, 700.0])[rows]
        if self.kind.startswith("SD3"):
            latents = torch.randn(2, 4, 8, 8, generator=generator)[rows]
            kwargs = attention_kwargs or sd3.joint_attention_kwargs(embeddings)
            return self.transformer(latents, hidden, pooled, timestep, joint_attention_kwargs=kwargs, return_dict=False)[0]
        latents = torch.randn(2, 12, config.in_channels, generator=generator)[rows]
        axes = 3 if self.kind.startswith("FluxT") else 4
        ids = {"img_ids": torch.arange(12)[:, None] * torch.ones(axes), "txt_ids": torch.zeros(TEXT, axes)}
        call = {"hidden_states": latents, "encoder_hidden_states": hidden, "timestep": timestep / 1000, **ids}
        if axes == 3:
            kwargs = attention_kwargs or flux1.joint_attention_kwargs(embeddings)
            guidance = torch.full((2,), 3.5)[rows] if config.guidance_embeds else None
            call |= {"pooled_projections": pooled[:, :16], "guidance": guidance}
        else:
            kwargs = flux2.joint_attention_kwargs(self.transformer, embeddings, TEXT)
        return self.transformer(**call, joint_attention_kwargs=kwargs, return_dict=False)[0]


def flux2_toy(folder: Path) -> Toy:
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    parts = init_ip_adapter(transformer, POOLED, 3)
    layers = {name: torch.randn_like(tensor) if "to_v" in name else tensor for name, tensor in parts["ip_adapter"].items()}
    named = {f"image_proj.{name}": tensor for name, tensor in parts["image_proj"].items()}
    return Toy(transformer, named | {f"ip_adapter.{name}": tensor for name, tensor in layers.items()}, folder)


def flux1_toy(folder: Path) -> Toy:
    transformer = make_flux1().transformer
    return Toy(transformer, xlabs_adapter(transformer, POOLED), folder)


def sd3_toy(folder: Path) -> Toy:
    transformer = make_sd3().transformer
    return Toy(transformer, instantx_adapter(transformer, PATCH_DIM), folder)


TOYS: dict[str, Callable[[Path], Toy]] = {"flux1": flux1_toy, "sd3": sd3_toy, "flux2": flux2_toy}


@pytest.fixture(scope="module", params=TOYS)
def toy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    torch.manual_seed(0)
    return TOYS[request.param](tmp_path_factory.mktemp(request.param))


def test_the_transformer_is_as_before_when_the_adapter_is_off(toy: Toy) -> None:
    transformer = toy.transformer
    before = toy(None), dict(transformer.attn_processors), list(transformer.state_dict()), set(vars(transformer))
    with installed_ip_adapter(transformer, load_ip_adapter(toy.path)):
        assert (toy(toy.photos(2, 1)) - before[0]).abs().max() > 1e-3
    with pytest.raises(ZeroDivisionError), installed_ip_adapter(transformer, load_ip_adapter(toy.path)):
        raise ZeroDivisionError
    assert torch.equal(toy(None), before[0])
    assert (dict(transformer.attn_processors), list(transformer.state_dict()), set(vars(transformer))) == before[1:]
    assert not {"encoder_hid_proj", "image_proj"} & set(dir(transformer))


def test_two_people_in_a_batch_do_not_mix(toy: Toy) -> None:
    photos = toy.photos(2, 9)
    with installed_ip_adapter(toy.transformer, load_ip_adapter(toy.path)):
        together = toy(photos)
        for person in range(2):
            rows = slice(person, person + 1)
            assert (together[rows] - toy(photos[rows], rows)).abs().max() < 1e-5
        assert (toy(photos.flip(0)) - together).abs().max() > 1e-3


def test_the_order_of_photos_does_not_matter_and_copies_of_one_are_that_one(toy: Toy) -> None:
    photos = toy.photos(2, 9)
    with installed_ip_adapter(toy.transformer, load_ip_adapter(toy.path)):
        assert (toy(photos[:, torch.randperm(9)]) - toy(photos)).abs().max() < 1e-4
        assert (toy(photos[:, :1].expand(photos.shape)) - toy(photos[:, :1])).abs().max() < 1e-4
        assert (toy(photos) - toy(photos[:, :1])).abs().max() > 1e-3


def test_a_file_is_read_and_written_to_the_last_bit(toy: Toy, tmp_path: Path) -> None:
    parts = load_ip_adapter(toy.path)
    encoder: Any = SimpleNamespace(embedding_dim=POOLED, num_tokens=0)
    if uses_patch_tokens(toy.path):
        encoder = SimpleNamespace(embedding_dim=PATCH_DIM, num_tokens=PATCHES)
    validate_ip_adapter(toy.transformer, parts, encoder, toy.path)
    with installed_ip_adapter(toy.transformer, parts):
        validate_ip_adapter(toy.transformer, parts, encoder, toy.path)  # whether one is in it or not
        save_ip_adapter(ip_adapter_state_dict(toy.transformer), tmp_path / "again.safetensors")
    again = load_ip_adapter(tmp_path / "again.safetensors")
    for part, tensors in parts.items():
        assert tensors.keys() == again[part].keys()
        assert all(torch.equal(tensor, again[part][name]) for name, tensor in tensors.items())


def test_an_adapter_of_another_shape_or_kind_is_refused(toy: Toy) -> None:
    parts, dims = load_ip_adapter(toy.path), (POOLED, 0)
    if uses_patch_tokens(toy.path):
        dims = (PATCH_DIM, PATCHES)
    encoder: Any = SimpleNamespace(embedding_dim=dims[0], num_tokens=dims[1])
    name, tensor = next(iter(parts["ip_adapter"].items()))
    layers = parts["ip_adapter"]
    for changed in (
        {key: value for key, value in layers.items() if key != name},
        layers | {name: tensor[:-1]},
        layers | {"99.to_k_ip.weight": tensor},
    ):
        with pytest.raises(ModelError, match=f"{name}|99.to_k_ip"):
            validate_ip_adapter(toy.transformer, {**parts, "ip_adapter": changed}, encoder, toy.path)
    with pytest.raises(ModelError, match="where the image encoder gives"):
        validate_ip_adapter(toy.transformer, parts, SimpleNamespace(embedding_dim=99, num_tokens=dims[1]), toy.path)  # type: ignore[arg-type]


def test_a_scale_for_all_blocks_or_for_some(toy: Toy) -> None:
    photos, plain = toy.photos(2, 3), toy(None)
    with installed_ip_adapter(toy.transformer, load_ip_adapter(toy.path)):

        def drawn(scale: Any) -> Tensor:
            validate_scale(scale)
            set_scale(toy.pipeline, scale)
            return toy(photos)

        assert torch.equal(drawn(0.0), plain)
        full = drawn(1.0)
        assert (full - plain).abs().max() > 1e-3
        sections = {"double": [1.0, 1.0]} | ({"single": 1.0} if toy.kind.startswith("Flux2") else {})
        assert torch.equal(drawn(sections), full)
        first, second = drawn({"double": {"block_0": 1.0}}), drawn({"double": [0, 1.0]})
        assert (first - second).abs().max() > 1e-4
        assert not torch.equal(first, plain)
        for wrong in ({"double": [1.0]}, {"double": {"block_7": 1.0}}, {"up": 1.0}):
            with pytest.raises(RecipeError, match="the layers with an adapter are double of 2"):
                set_scale(toy.pipeline, wrong)


def test_learns_nothing_but_the_adapter(toy: Toy) -> None:
    toy.transformer.requires_grad_(False)
    with installed_ip_adapter(toy.transformer, load_ip_adapter(toy.path)):
        learns = {name for name, parameter in toy.transformer.named_parameters() if parameter.requires_grad}
        assert learns == {name for name in toy.transformer.state_dict() if "processor" in name or ("_proj." in name and name.startswith(("encoder_hid_proj", "image_proj")))}  # noqa: E501 # fmt: skip


def test_an_untrained_adapter_of_flux2_changes_nothing(tmp_path: Path) -> None:
    toy = flux2_toy(tmp_path)
    plain = toy(None)
    with installed_ip_adapter(toy.transformer, init_ip_adapter(toy.transformer, POOLED, 3)):
        assert (toy(toy.photos(2, 9)) - plain).abs().max() < 1e-6
    with installed_ip_adapter(toy.transformer, load_ip_adapter(toy.path)):
        set_scale(toy.pipeline, {"single": [0, 1.0]})
        assert (toy(toy.photos(2, 9)) - plain).abs().max() > 1e-3
    made = make_flux1().transformer
    with pytest.raises(ModelError, match="training goes on from a published one"):
        init_ip_adapter(made, POOLED)


def test_a_resampler_that_reads_patches_goes_into_flux2(tmp_path: Path) -> None:
    toy = flux2_toy(tmp_path)
    shapes = plus_projection(PATCH_DIM, toy.transformer.inner_dim, (16, 1, 4, 1))
    layers = {name: tuple(tensor.shape) for name, tensor in load_ip_adapter(toy.path)["ip_adapter"].items()}
    save_file(random_adapter(shapes, layers), tmp_path / "plus.safetensors")
    parts = load_ip_adapter(tmp_path / "plus.safetensors")
    validate_ip_adapter(toy.transformer, parts, SimpleNamespace(embedding_dim=PATCH_DIM, num_tokens=PATCHES), tmp_path)  # type: ignore[arg-type]
    plain, photos = toy(None), torch.randn(2, 3, PATCHES, PATCH_DIM)
    with installed_ip_adapter(toy.transformer, parts):
        assert (toy(photos) - plain).abs().max() > 1e-3


def test_a_timed_projection_is_sd3s_alone(tmp_path: Path) -> None:
    made, other = make_sd3().transformer, make_flux1().transformer
    save_file(instantx_adapter(made, PATCH_DIM), tmp_path / "sd3.safetensors")
    save_file(random_adapter(plus_projection(PATCH_DIM, made.inner_dim, (16, 1, 4, 1)), {}), tmp_path / "plus.safetensors")
    encoder: Any = SimpleNamespace(embedding_dim=PATCH_DIM, num_tokens=PATCHES)
    for transformer, file in ((other, "sd3.safetensors"), (made, "plus.safetensors")):
        with pytest.raises(ModelError, match="another family of models"):
            validate_ip_adapter(transformer, load_ip_adapter(tmp_path / file), encoder, tmp_path / file)
    with pytest.raises(ModelError, match="an IP-Adapter for Linear"):
        validate_ip_adapter(nn.Linear(2, 2), load_ip_adapter(tmp_path / "sd3.safetensors"), encoder, tmp_path)


@pytest.mark.parametrize("tokens", [4, 16])
def test_flux1_predicts_as_with_diffusers_own_loader(tokens: int, tmp_path: Path) -> None:
    # diffusers knows 16 tokens by 65,536 rows of the projection.
    torch.manual_seed(0)
    pipeline = make_flux1(text_dim=4096 if tokens == 16 else 32)
    toy = Toy(pipeline.transformer, xlabs_adapter(pipeline.transformer, POOLED, tokens), tmp_path)
    for photos in (toy.photos(2, 1), toy.photos(2, 9)):
        with installed_ip_adapter(toy.transformer, load_ip_adapter(toy.path)):
            set_scale(toy.pipeline, {"double": [0.3, 0.9]})
            ours = toy(photos)
        with ExitStack() as stack:
            stack.callback(pipeline.unload_ip_adapter)
            pipeline.load_ip_adapter(str(tmp_path), weight_name=toy.path.name, image_encoder_pretrained_model_name_or_path=None)
            pipeline.set_ip_adapter_scale([0.3, 0.9])
            assert (toy(photos) - ours).abs().max() < 1e-4


def test_sd3_predicts_as_with_diffusers_own_loader(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipeline = make_sd3()
    toy = Toy(pipeline.transformer, instantx_adapter(pipeline.transformer, PATCH_DIM), tmp_path)
    photos, plain = toy.photos(2, 1), toy(None)
    with installed_ip_adapter(toy.transformer, load_ip_adapter(toy.path)):
        set_scale(toy.pipeline, 0.7)
        ours = toy(photos)
    pipeline.load_ip_adapter(str(tmp_path), weight_name=toy.path.name, subfolder="", image_encoder_folder=None)
    pipeline.set_ip_adapter_scale(0.7)
    theirs = toy(None, attention_kwargs={"ip_adapter_image_embeds": photos[:, 0]})
    assert (theirs - ours).abs().max() < 1e-4
    assert (theirs - plain).abs().max() > 1e-3
