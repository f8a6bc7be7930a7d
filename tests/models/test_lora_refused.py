"""What is no LoRA, or none of this model's, is refused by name, and nothing is added."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tenth.core.errors import IdentityError, ModelError
from tenth.models.adapters.lora_file import load_lora
from tenth.models.adapters.weight_deltas import applied_weights
from tenth.models.pipelines import load_pipeline
from toy_lora import (
    KERNEL,
    KEY,
    QUERY,
    TEXT,
    Tensors,
    all_tensors,
    lora_pair,
)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "holds nothing"),
        (lora_pair(down=torch.full((2, 16), torch.nan)), f"holds {KEY}.lora_down.weight with a number that is not finite"),
        (lora_pair(up=torch.full((16, 2), torch.inf)), f"holds {KEY}.lora_up.weight with a number that is not finite"),
        (lora_pair(down=torch.ones(2, 16, dtype=torch.int64)), "lora_down.weight as int64, not as floating-point numbers"),
        (lora_pair(down=torch.ones(2, 16, dtype=torch.complex64)), "lora_down.weight as complex64"),
        (lora_pair(down=torch.full((2, 16), torch.nan).to(torch.float8_e4m3fn)), "that is not finite"),
        (
            lora_pair(down=torch.ones(3, 16)),
            r"has matrices of lora_unet_\S+ of shapes \(16, 2\) and \(3, 16\), which do not go together",
        ),
        (lora_pair(down=torch.ones(16)), r"\(16,\), which are neither matrices nor kernels"),
        (lora_pair(down=torch.ones(0, 16), up=torch.ones(16, 0)), "which are neither matrices nor kernels"),
        (lora_pair(down=torch.ones(2, 16, 3, 3), up=torch.ones(16, 2, 3, 3)), "another one than usual is the kernel"),
        (lora_pair() | {f"{KEY}.alpha": torch.tensor(torch.nan)}, "with an alpha that is not one finite number other than 0"),
        (lora_pair() | {f"{KEY}.alpha": torch.ones(2)}, "with an alpha that is not one finite number"),
        (lora_pair() | {f"{KEY}.alpha": torch.tensor(0.0)}, "with an alpha that is not one finite number other than 0"),
        (lora_pair() | {f"{KEY}.alpha": torch.tensor(True)}, "with an alpha that is not one finite number"),
        (
            lora_pair() | {f"{KEY}.dora_scale": torch.ones(5, 1)},
            r"with magnitudes of shape \(5, 1\) for a weight of \(16, 16\)",
        ),
        (lora_pair() | {f"{KEY}.dora_scale": torch.full((16, 1), torch.nan)}, "dora_scale with a number that is not finite"),
        ({f"{KEY}.lora_down.weight": torch.ones(2, 16)}, f"has not both matrices of {KEY}"),
        (lora_pair() | {"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "has not both matrices of lora_unet_conv_in"),
        (lora_pair() | {f"{KEY}.hada_w1_a": torch.ones(1)}, rf"holds LoHa matrices \({KEY}.hada_w1_a\)"),
        (lora_pair() | {f"{KEY}.lokr_w1": torch.ones(1)}, "holds LoKr matrices"),
        (lora_pair() | {f"{KEY}.diff": torch.ones(1)}, "holds whole differences"),
        (lora_pair() | {f"{KEY}.lora_up.bias": torch.ones(1)}, "holds biases"),
        (lora_pair() | {"bundle_emb.me.string_to_param.*": torch.ones(1)}, "holds embeddings of words"),
        (lora_pair("lora\nunet"), r"has no name that a layer can have \(lora.unet"),
        (lora_pair("x" * 600), r"has no name that a layer can have \(x{100}\.\.\."),
        ({f"w{number}": torch.ones(1) for number in range(5)}, r"holds what belongs to no LoRA \(w0, w1, w2, and 2 more\)"),
        (lora_pair() | {f"{KEY}.lora_A.weight": torch.ones(2, 16)}, "has the down matrix of .* twice"),
    ],
)
def test_what_is_no_lora_is_refused_when_it_is_read(tensors: Tensors, said: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match=said) as caught:
        load_lora(tmp_path / "lora.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (lora_pair() | lora_pair("lora_unet_nowhere_to_q"), r"layers that this model does not have \(lora_unet_nowhere_to_q\)"),
        (lora_pair() | lora_pair("lora_te2_" + TEXT.replace(".", "_")), "layers that this model does not have"),
        (lora_pair() | lora_pair("transformer.blocks.0.to_q"), r"\(transformer.blocks.0.to_q\)"),
        (lora_pair(down=torch.ones(2, 9)), r"for a weight of \(16, 9\), where the model's is \(16, 16\)"),
        (lora_pair() | lora_pair(KERNEL), r"for a weight of \(16, 16\), where the model's is \(16, 16, 3, 3\)"),
        (lora_pair() | lora_pair(f"unet.{QUERY}"), "twice, under two names"),
        (
            lora_pair(down=torch.full((2, 16), 1e30), up=torch.full((16, 2), 1e30)),
            "adds so much that the model holds .* not finite",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_and_nothing_is_added(
    tensors: Tensors, said: str, sd15_folder: Path, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "lora.safetensors")
    pipeline = load_pipeline(sd15_folder)
    before = all_tensors(pipeline)
    with pytest.raises(ModelError, match=said) as caught:
        load_lora(tmp_path / "lora.safetensors").merge_into(pipeline)
    assert str(tmp_path / "lora.safetensors") in str(caught.value)
    after = all_tensors(pipeline)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_an_identity_s_matrices_are_looked_at(sd15_folder: Path) -> None:
    pipeline = load_pipeline(sd15_folder)
    before = all_tensors(pipeline)
    good = {f"unet.{QUERY}.lora_A.weight": torch.ones(2, 16), f"unet.{QUERY}.lora_B.weight": torch.ones(16, 2)}
    for change, said in {
        "lora_A": (torch.ones(16), "neither matrices nor kernels"),
        "lora_B": (torch.full((16, 2), 3e38), "not finite"),
    }.items():
        weights = good | {f"unet.{QUERY}.{change}.weight": said[0]}
        with pytest.raises(IdentityError, match=said[1]), applied_weights(pipeline, weights):
            pass
    pipeline.text_encoder.to("meta")
    name = f"text_encoder.{TEXT}.weight.diff"
    with (
        pytest.raises(ModelError, match="weights that are fetched layer by layer"),
        applied_weights(pipeline, good | {name: torch.ones(16, 16)}),
    ):
        pass
    after = all_tensors(pipeline)
    assert all(torch.equal(value, after[name]) for name, value in before.items() if not after[name].is_meta)


def test_a_file_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes(b"half")
    (tmp_path / "folder.safetensors").mkdir()
    with (tmp_path / "huge.safetensors").open("wb") as file:
        file.truncate(10**10)  # of nothing: it takes no place on the disk
    for name, said in {
        "none": "does not exist",
        "half": "is damaged or not safetensors",
        "folder": "is a folder",
        "huge": "has 10 GB, more than",
    }.items():
        with pytest.raises(ModelError, match=f"{name}.safetensors {said}"):
            load_lora(tmp_path / f"{name}.safetensors")
    save_file(lora_pair(), tmp_path / "odd.safetensors", {"lora_adapter_metadata": "[1]"})
    with pytest.raises(ModelError, match="has no table as lora_adapter_metadata"):
        load_lora(tmp_path / "odd.safetensors")
