"""A thousand damaged adapter files of every layout: each is refused with a reason, none is a crash, none is loaded."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from tenth.core.errors import ModelError
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.registry import load_model
from toy_adapters import toy_adapters

COUNT = 500  # for each family
DTYPES = (torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool, torch.float8_e4m3fn)
Tensors = dict[str, Tensor]


def header_flipped(tensors: Tensors, chance: random.Random) -> bytes:
    content = bytearray(save(tensors))
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(chance.choice((1, 1, 1, 3))):
        content[chance.randrange(header)] ^= 1 << chance.randrange(8)
    return bytes(content)


def header_replaced(tensors: Tensors, chance: random.Random) -> bytes:
    content = bytearray(save(tensors))
    content[chance.randrange(8 + int.from_bytes(content[:8], "little"))] = chance.randrange(256)
    return bytes(content)


def truncated(tensors: Tensors, chance: random.Random) -> bytes:
    content = save(tensors)
    header = 8 + int.from_bytes(content[:8], "little")
    return content[: chance.choice((chance.randrange(8), chance.randrange(header), chance.randrange(len(content))))]


def lengthened(tensors: Tensors, chance: random.Random) -> bytes:
    return save(tensors) + chance.randbytes(chance.randint(1, 64))


def missing(tensors: Tensors, chance: random.Random) -> bytes:
    gone = set(chance.sample(sorted(tensors), chance.choice((1, 1, 2, len(tensors) - 1))))
    return save({name: tensor for name, tensor in tensors.items() if name not in gone})


def extra(tensors: Tensors, chance: random.Random) -> bytes:
    near = chance.choice(sorted(tensors))
    name = chance.choice((near + ".copy", "x" + near, near.split(".")[0], "", "image_proj.", "unet." + near, "ip_adapter.99.to_k_ip.weight", "image_proj.layers.4.0.to_q.weight", "image_proj.proj.weight", "image_proj.latents", "image_proj.layers.x"))  # fmt: skip # noqa: E501
    return save(tensors | {name if name not in tensors else name + "2": tensors[near].clone()})


def renamed(tensors: Tensors, chance: random.Random) -> bytes:
    old = chance.choice(sorted(tensors))
    at = chance.randrange(len(old))
    new = old[:at] + chance.choice("0123456789abxyz._") + old[at + 1 :]
    if new in tensors:
        return missing(tensors, chance)
    return save({new if name == old else name: tensor for name, tensor in tensors.items()})


def misshaped(tensors: Tensors, chance: random.Random) -> bytes:
    name = chance.choice(sorted(tensors))
    tensor = tensors[name]
    changes = [tensor[:-1], tensor[None], tensor[:0], torch.cat([tensor, tensor]), torch.zeros(())]
    changes += [tensor[..., :-1], tensor.flatten()] if tensor.ndim > 1 else []
    changes += [tensor.T] if tensor.ndim == 2 and tensor.shape[0] != tensor.shape[1] else []
    return save(tensors | {name: chance.choice(changes).contiguous().clone()})


def of_another_type(tensors: Tensors, chance: random.Random) -> bytes:
    name = chance.choice(sorted(tensors))
    return save(tensors | {name: tensors[name].to(chance.choice(DTYPES))})


def not_finite(tensors: Tensors, chance: random.Random) -> bytes:
    name = chance.choice(sorted(tensors))
    tensor = tensors[name].to(chance.choice((torch.float32, torch.float16, torch.bfloat16))).clone()
    tensor.view(-1)[chance.randrange(tensor.numel())] = chance.choice((float("nan"), float("inf"), -float("inf")))
    return save(tensors | {name: tensor})


def a_pickle(tensors: Tensors, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return pickle.dumps({name: tensor.tolist() for name, tensor in tensors.items()}, protocol=chance.randrange(6))
    file = io.BytesIO()
    torch.save(tensors, file, _use_new_zipfile_serialization=chance.random() < 0.5)
    return file.getvalue()


DAMAGE: tuple[Callable[[Tensors, random.Random], bytes], ...] = (
    *(header_flipped, header_flipped, header_replaced, truncated, lengthened, missing, extra, renamed),
    *(misshaped, of_another_type, not_finite, a_pickle),
)


def equal(path: Path, tensors: Tensors) -> bool:
    """Whether the file holds the same names, types, shapes and bits."""
    found = load_file(path)
    return found.keys() == tensors.keys() and all(
        tensor.dtype == tensors[name].dtype and torch.equal(tensor, tensors[name]) for name, tensor in found.items()
    )


def refusal(model: LatentDiffusion, path: Path) -> ModelError | None:
    """Why the model refuses the file; None if it takes it. Anything else that is raised is a crash."""
    try:
        model.add_adapter(path)
    except ModelError as error:
        return error
    return None


@pytest.fixture(scope="module")
def folder(stable_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(stable_folder, tmp_path_factory.mktemp("damaged") / "model"))


def models(folder: Path) -> list[tuple[LatentDiffusion, Tensors]]:
    """A model that reads each kind of adapter, and a whole file of that kind."""
    vision = json.loads((folder / "image_encoder/config.json").read_text())
    family = "sdxl" if (folder / "text_encoder_2").is_dir() else "sd15"
    plain = load_model(str(folder))
    made = toy_adapters(plain.pipeline.unet, family, vision["projection_dim"], vision["hidden_size"])
    found = []
    for name, tensors in made.items():
        path = folder / f"{name}.safetensors"
        path.write_bytes(save(tensors))
        found.append((load_model(str(folder), adapter=path), tensors))
    return found


def test_a_damaged_file_is_refused_with_a_reason(folder: Path, tmp_path: Path) -> None:
    chance, whole = random.Random(0), models(folder)
    refused: Counter[str] = Counter()
    unharmed = 0
    while (number := refused.total()) < COUNT:
        damage, (model, tensors) = chance.choice(DAMAGE), chance.choice(whole)
        path = tmp_path / f"{number}-{unharmed}.safetensors"
        path.write_bytes(damage(tensors, chance))
        if (error := refusal(model, path)) is None:
            assert damage in (header_flipped, header_replaced), damage.__name__
            assert equal(path, tensors), "a damaged file was loaded"
            unharmed += 1
        else:
            assert error.found.startswith(f"{path} "), damage.__name__
            assert len(error.found) > len(str(path)) + 8, damage.__name__
            assert error.needed
            assert error.action
            refused[damage.__name__] += 1
        path.unlink()
    assert refused.keys() == {damage.__name__ for damage in DAMAGE}
    assert unharmed < COUNT / 20
    for model, tensors in whole:  # what was refused has left nothing behind
        path = tmp_path / "whole.safetensors"
        path.write_bytes(save(tensors))
        assert refusal(model, path) is None


@pytest.mark.parametrize("name", ["ip-adapter.bin", "ip-adapter.safetensors"])
def test_a_pickle_is_refused_unopened_and_what_to_do_is_said(folder: Path, tmp_path: Path, name: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "sprung"), "w")

    file = io.BytesIO()
    torch.save({"image_proj": Trap()}, file)
    for content in (pickle.dumps(Trap()), file.getvalue()):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=r"is a pickle, and reading one may run any code.*ends in \.safetensors"):
            load_model(str(folder), adapter=tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_whole_file_is_never_taken_for_a_pickle(tmp_path: Path) -> None:
    """A header of 640 bytes begins as a pickle of protocol 2 does."""
    from tenth.models.adapters.ip_adapter import load_ip_adapter

    tensors, starts = {"image_proj.proj.weight": torch.zeros(2, 2)}, set()
    for length in range(440, 640, 8):
        (tmp_path / "a.safetensors").write_bytes(save(tensors, metadata={"x": "y" * length}))
        starts.add((tmp_path / "a.safetensors").read_bytes()[:2])
        assert load_ip_adapter(tmp_path / "a.safetensors")["image_proj"]["proj.weight"].shape == (2, 2)
    assert b"\x80\x02" in starts
