"""An identity in another program, for real: a process of its own that does not know tenth draws the same picture."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fresh import Fresh
from tenth.cli.main import main
from tenth.core.errors import CheckpointError, IdentityError
from tenth.core.types import Identity
from tenth.methods.export import export_comfyui, export_embeddings
from tenth.methods.identity_file import save_identity
from tenth.models.adapters.ip_adapter import adapter_name
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, sample_float

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
PROMPT = "a photo of a person"
FEW = SamplingConfig(steps=3)


def somebody(model: Any, rows: int = 2) -> Identity:
    embeddings = 3 * torch.randn(rows, model.encoder.embedding_dim, generator=torch.Generator().manual_seed(0))
    return Identity("ip-adapter-concat", model.name, model.encoder.name, model.adapter_name, embeddings, photos=("0",))


def ours(model: Any, identity: Identity, sampling: SamplingConfig = FEW) -> np.ndarray:
    """The picture before it is rounded, (H, W, 3) in [0, 1]."""
    with model.applied([identity]) as embeddings:
        return sample_float(SamplingBatch(model, sampling, [PROMPT], [0], embeddings))[0]


def run_the_page(fresh: Fresh, model: Path, files: Path, scale: float, first: str = "") -> dict[str, np.ndarray]:
    """The page's lines in a second process, on this model and these files, with a few steps: its picture as numbers.

    scale: the model's own guidance scale.

    And then once more without guidance, as the page says.
    """
    (lines,) = re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    body = lines.split("\n\n")[1].splitlines()
    assert len(body) == 5
    assert "tenth" not in lines
    changes = {"models/sd15": str(model), "for-diffusers": str(files), 'steps": 25': 'steps": 3, "output_type": "np"'}
    changes['"guidance_scale": 7.5'] = f'"guidance_scale": {scale}'
    for old, new in changes.items():
        assert old in lines
        lines = lines.replace(old, new)
    if first:  # the pocket model, whose noise the page gives in a line below
        noise = "torch.randn(1, 8, 16, 16, generator=torch.manual_seed(0))"
        assert f"noise = {noise}" in PAGE.read_text(encoding="utf-8")
        lines = lines.replace("image = pipeline", f"noise = {noise}\nimage = pipeline")
        body[4], lines = (
            text.replace("generator=torch.manual_seed(0), **", "latents=noise - noise.mean((2, 3), keepdim=True), **")
            for text in (body[4], lines)
        )
    plain = (
        body[4]
        .replace("[embeds]", "[embeds[1:]]")
        .replace("image =", "plain =")
        .replace("**asked", '**asked | {"guidance_scale": 1}')
    )
    knows = "" if first else "import sys; assert not any(name.startswith('tenth') for name in sys.modules)"
    save = f"import numpy; numpy.savez({str(files / 'images.npz')!r}, guided=image, plain=plain)"
    script = f"{first}\n{lines}\n{plain}\n{knows}\n{save}"
    (files / "page.py").write_text(script, encoding="utf-8")
    done = fresh.script(files / "page.py", at=files)
    assert done.code == 0, done.err
    return dict(np.load(files / "images.npz"))


def assert_the_page_draws_it(fresh: Fresh, model: Any, folder: Path, files: Path, first: str = "") -> None:
    """The page's picture is ours, and depends on whom it shows."""
    scale = max(model.default_sampling.guidance_scale, 1.4)  # the pocket model's own is 1
    wanted = {
        "guided": ours(model, somebody(model), SamplingConfig(steps=3, guidance_scale=scale)),
        "plain": ours(model, somebody(model), SamplingConfig(steps=3, guidance_scale=1.0)),
    }
    for name, image in run_the_page(fresh, folder, files, scale, first).items():
        np.testing.assert_allclose(image, wanted[name], atol=1e-5)
        assert np.abs(ours(model, somebody(model, 1)) - image).max() > 1e-3


def test_five_lines_of_diffusers_draw_the_same_image(fresh: Fresh, stable_folder: Path, tmp_path: Path) -> None:
    model = load_model(str(stable_folder))
    written = export_embeddings(somebody(model), model, tmp_path / "me.safetensors")
    assert written == [tmp_path / "me.safetensors", tmp_path / "me.ip-adapter.safetensors"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert_the_page_draws_it(fresh, model, stable_folder, tmp_path)


def test_the_pocket_model_wants_its_autoencoder_known_first(
    fresh: Fresh, toy_model: Any, toy_folder: Path, tmp_path: Path
) -> None:
    export_embeddings(somebody(toy_model), toy_model, tmp_path / "me.safetensors")
    assert_the_page_draws_it(fresh, toy_model, toy_folder, tmp_path, "import tenth.models.pocket.autoencoder")


def test_the_files_hold_nobody_and_the_person_and_the_adapter_s_very_bytes(
    toy_model: Any, toy_folder: Path, tmp_path: Path
) -> None:
    identity = somebody(toy_model)
    path, adapter = export_embeddings(identity, toy_model, tmp_path / "new/me.safetensors")
    tensors = load_file(path)
    assert list(tensors) == ["ip_adapter_image_embeds"]
    assert tensors["ip_adapter_image_embeds"].shape == (2, 2, 128)
    assert not tensors["ip_adapter_image_embeds"][0].any()
    assert torch.equal(tensors["ip_adapter_image_embeds"][1], identity.embeddings)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "encoder": identity.encoder, "adapter": identity.adapter}
    assert adapter.read_bytes() == (toy_folder / "ip-adapter/ip-adapter.safetensors").read_bytes()
    assert adapter_name(toy_folder / "ip-adapter/ip-adapter.safetensors") == identity.adapter


def test_a_trained_method_s_own_adapter_goes_with_it(toy_model: Any, toy_folder: Path, tmp_path: Path) -> None:
    own = toy_folder / "ip-adapter-attention/ip-adapter.safetensors"
    model = load_model(str(toy_folder))
    made = Identity("run", model.name, model.encoder.name, adapter_name(own), somebody(toy_model).embeddings)
    save_identity(made, tmp_path / "made.safetensors")
    run = Path(shutil.copytree(own.parent, tmp_path / "run/final"))
    given = ["--model", str(toy_folder), "--method", str(run), "-o", str(tmp_path / "me.safetensors")]
    assert main(["export", str(tmp_path / "made.safetensors"), *given]) == 0
    assert (tmp_path / "me.ip-adapter.safetensors").read_bytes() == own.read_bytes()


def test_nothing_is_overwritten(toy_model: Any, tmp_path: Path) -> None:
    for name in ("me.safetensors", "me.ip-adapter.safetensors"):
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(CheckpointError, match=f"{name} exists.*; a new path is needed"):
            export_embeddings(somebody(toy_model), toy_model, tmp_path / "me.safetensors")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]
        (tmp_path / name).unlink()


def test_what_cannot_be_exported_is_said(toy_model: Any, tmp_path: Path) -> None:
    other = Identity("ip-adapter", "other@0", "clip@0", "a@0", torch.ones(1, 8))
    with pytest.raises(IdentityError, match="made for model other@0"):
        export_embeddings(other, toy_model, tmp_path / "me.safetensors")
    weights = Identity("dreambooth", toy_model.name, "", "", weights={"unet.conv_in.weight.diff": torch.zeros(1)})
    with pytest.raises(IdentityError, match="holds weights alone; image embeddings are needed"):
        export_embeddings(weights, toy_model, tmp_path / "me.safetensors")
    with pytest.raises(IdentityError, match="image embeddings are needed"):
        export_comfyui(weights, tmp_path / "me.ipadpt")
    with pytest.raises(IdentityError, match=r"are of dlib-resnet@.*ComfyUI has no adapter that reads others"):
        export_comfyui(somebody(toy_model), tmp_path / "me.ipadpt")
    assert not list(tmp_path.iterdir())


def test_comfyui_reads_the_person_s_rows(
    fresh: Fresh, stable_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As its node does it, in a process that does not know tenth."""
    model = load_model(str(stable_folder))
    identity = somebody(model, 3)
    save_identity(identity, tmp_path / "made.safetensors")
    path = tmp_path / "me.ipadpt"
    assert main(["export", str(tmp_path / "made.safetensors"), "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    script = (
        "import sys, torch; from safetensors.torch import save_file\n"
        "embeds = torch.load(sys.argv[1], weights_only=True).cpu()\n"
        "assert type(embeds) is torch.Tensor and 'tenth' not in sys.modules\n"
        "save_file({'embeds': embeds}, sys.argv[2])"
    )
    (tmp_path / "node.py").write_text(script, encoding="utf-8")
    done = fresh.script(tmp_path / "node.py", path, tmp_path / "read.safetensors", at=tmp_path)
    assert done.code == 0, done.err
    assert torch.equal(load_file(tmp_path / "read.safetensors")["embeds"], identity.embeddings)
    assert path.stat().st_size < identity.embeddings.nbytes + 2_000  # nothing else is in it
    assert main(["export", str(tmp_path / "made.safetensors"), "-o", str(path)]) == 1
    assert "exists; a new path is needed" in capsys.readouterr().err


def test_the_command_says_both_files(stable_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_identity(somebody(load_model(str(stable_folder))), tmp_path / "made.safetensors")
    given = ["export", str(tmp_path / "made.safetensors"), "--model", str(stable_folder), "-o"]
    assert main([*given, str(tmp_path / "me.safetensors")]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(tmp_path / "me.safetensors"), str(tmp_path / "me.ip-adapter.safetensors")]
    assert "in a prompt" not in said.err
    assert main([*given, str(tmp_path / "whole")]) == 1
    assert "export it to a file that ends in .safetensors" in capsys.readouterr().err
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    assert main(["export", str(tmp_path / "foreign.safetensors"), "-o", str(tmp_path / "x.ipadpt")]) == 1
    assert "has no entry of tenth's" in capsys.readouterr().err
