"""A sanitized copy of a model's folder for the loaders of diffusers and transformers, which never read the original.

They follow what a folder names: a class, a kernel on a hub, an adapter beside the weights. Only known keys of configurations
are copied, with checked values, and files of weights linked after their headers were validated; nothing else is taken over.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tenth.core.errors import ModelError
from tenth.core.files.reading import MAX_TEXT_BYTES, UnreadableError, read_bytes, read_json, reason
from tenth.core.files.tensors import FLOAT_DTYPES, TensorInfo, check_finite_tensors, read_header

if TYPE_CHECKING:
    from torch import nn


WEIGHT_FILE_PATTERN = re.compile(r"(model|diffusion_pytorch_model)(-\d{1,5}-of-\d{1,5})?\.safetensors")
WEIGHT_INDEX_PATTERN = re.compile(r"(model|diffusion_pytorch_model)\.safetensors\.index\.json")  # which file has which tensor
MAX_INTEGER, MAX_FLOAT = 10_000_000, 1e9  # of a number in a configuration
MAX_LAYERS = 1_000  # layers times blocks; of SDXL's UNet 60
LAYER_COUNT_KEYS, BLOCK_LIST_KEYS = re.compile(r"layers|blocks$"), re.compile("block")  # of numbers and lists that multiply
MAX_LIST_LENGTH, MAX_TEXT_CHARS, MAX_DEPTH = 10_000, 1_000, 4
PLAIN_NAME = re.compile(r"[\w.-]*", re.ASCII)  # a class, an activation, a kind; never a path or a repository


@dataclass(frozen=True)
class ComponentSpec:
    """One folder of a model. keys: of its configuration, that are copied; `fixed_values` override the file's.

    config_table: the table that is the configuration, where a file has it among others. nested_keys: keys of tables that stay
    tables. tokenizer_files: files of a tokenizer, each there or not; then texts in the configuration may be any.
    """

    keys: Collection[str]
    config_file: str = "config.json"
    fixed_values: Mapping[str, Any] = field(default_factory=dict)
    config_table: str = ""
    nested_keys: Mapping[str, Collection[str]] = field(default_factory=dict)
    weights: bool = True
    tokenizer_files: tuple[str, ...] = ()


TOKENIZER = ComponentSpec(
    keys=(
        *("model_max_length", "do_lower_case", "add_prefix_space", "clean_up_tokenization_spaces", "errors"),
        *("bos_token", "eos_token", "pad_token", "unk_token"),
        *("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"),
    ),
    config_file="tokenizer_config.json",
    weights=False,
    tokenizer_files=("vocab.json", "merges.txt", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
)


@contextmanager
def sanitized_folder(
    folder: Path, components: Mapping[str, ComponentSpec], index: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """The private folder, while the block runs. components: by the names of their folders; "": the folder itself.

    index: the content of its model_index.json, if it has one. Raises ModelError if a file is missing or invalid.
    """
    with TemporaryDirectory(prefix="tenth-") as temporary:
        safe = Path(temporary)
        if index is not None:
            (safe / "model_index.json").write_text(json.dumps(index))
        for name, component in components.items():
            (safe / name).mkdir(exist_ok=True)
            _copy_tokenizer_files(folder / name, safe / name, component)
            if component.weights:
                _link_weights(folder / name, safe / name)
            settings = _read_component_config(folder / name / component.config_file, component)
            (safe / name / component.config_file).write_text(json.dumps(settings))
        yield safe


def read_config(path: Path) -> dict[str, Any]:
    """The table in a JSON file of a model. Raises ModelError."""
    with _explain_errors(path):
        config = read_json(path)
    if not isinstance(config, dict):
        raise invalid_model(path, "is no table")
    return config


def check_values(path: Path, table: Mapping[str, Any], *, allow_any_text: bool = False) -> None:
    """Raises ModelError unless the values are such as a configuration has. allow_any_text: they may be any, not words alone."""
    count = 1
    for key, value in table.items():
        _check_value(path, key, value, allow_any_text)
        if LAYER_COUNT_KEYS.search(key):
            count *= max([1, *_integers(value)])
    count *= max([1, *(len(value) for key, value in table.items() if BLOCK_LIST_KEYS.search(key) and isinstance(value, list))])
    if count > MAX_LAYERS:
        raise invalid_model(path, f"asks for {count} layers")


def weight_files(folder: Path) -> list[Path]:
    """The files of one part's weights. Raises ModelError if the folder cannot be read."""
    with _explain_errors(folder):
        return sorted(path for path in folder.iterdir() if WEIGHT_FILE_PATTERN.fullmatch(path.name))


def folder_tensor_infos(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of one part by name, from its files' headers. Raises ModelError."""
    return {name: info for path in weight_files(folder) for name, info in tensor_infos(path).items()}


def tensor_infos(path: Path) -> dict[str, TensorInfo]:
    """Every tensor of one file by name, from its header. Raises ModelError."""
    with _explain_errors(path):
        return read_header(path)[1]


def check_weights_match(build_module: Callable[[], nn.Module], weights: Mapping[str, TensorInfo], folder: Path) -> nn.Module:
    """The module that a configuration describes, without memory for its weights. build_module: makes it.

    Raises ModelError unless it can be made, and the weights are its own: a tensor of each shape, by its name or an older one.
    """
    import torch

    try:
        with torch.device("meta"):
            module = build_module()
    except Exception as problem:  # a library's constructor meets a foreign configuration: it may fail in any way
        raise invalid_model(folder, f"has a configuration of nothing that can be made ({first_line(problem)})") from problem
    expected = {name: (tuple(value.shape), value.is_floating_point()) for name, value in module.state_dict().items()}
    unmatched = Counter(each.shape for name, each in weights.items() if name not in expected and each.dtype in FLOAT_DTYPES)
    for name, (shape, is_float) in expected.items():
        info = weights.get(name)
        if info is None:
            unmatched[shape] -= 1
        elif info.shape != shape or (is_float and info.dtype not in FLOAT_DTYPES):
            raise invalid_model(folder, f"has {name} as {info.dtype} {info.shape}, where its configuration asks for {shape}")
        if info is None and unmatched[shape] < 0 and is_float:
            raise invalid_model(folder, f"has no {name} of {shape}, for which its configuration asks")
    return module


def left_out_layer(weights: Iterable[str], known: Iterable[str]) -> str:
    """The first layer, such as "model.layers.7", of a stack of a network that a file goes on with; "" if there is none.

    weights, known: names of tensors, of the file and of the network. Whatever else a file has is its own affair: a head that is
    not used, the vision half of a model whose text half is loaded. A stack of another name is found by what it is called last.
    """
    stacks, file_stacks = _stacks(known), _stacks(weights)
    for stack, indices in file_stacks.items():
        last = stack.rpartition(".")[2]
        renamed = [each for each in stacks if each not in file_stacks and each.rpartition(".")[2] == last]
        there = stacks.get(stack, stacks[renamed[0]] if len(renamed) == 1 else indices)
        if extra := indices - there:
            return f"{stack}.{min(extra)}"
    return ""


def _stacks(names: Iterable[str]) -> dict[str, set[int]]:
    """The numbers of the layers of each stack: "model.layers" -> 0, 1, ..."""
    found: dict[str, set[int]] = {}
    for name in names:
        parts = name.split(".")
        for place, part in enumerate(parts):
            if place and part.isdecimal():
                found.setdefault(".".join(parts[:place]), set()).add(int(part))
    return found


def check_finite(module: nn.Module, folder: Path) -> None:
    """Raises ModelError if a weight is not a finite number. Some GB a second, and no copy."""
    with _explain_errors(folder):
        check_finite_tensors(dict(module.named_parameters()) | dict(module.named_buffers()))


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnreadableError) as problem:
        raise invalid_model(path, reason(problem)) from problem


def invalid_model(path: Path, found: str) -> ModelError:
    """The error for a part of a model."""
    return ModelError(f"{path} {found}", "a whole model of a known kind is needed", "Get it again, or choose another")


def first_line(problem: BaseException) -> str:
    """The first line of a library's error, shortened."""
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return f"{lines[0]:.200}"


def _read_component_config(path: Path, component: ComponentSpec) -> dict[str, Any]:
    if component.tokenizer_files and not path.exists():
        return dict(component.fixed_values)
    config = read_config(path)
    if isinstance(config.get(component.config_table), dict):
        config = config[component.config_table]
    kept = {key: value for key, value in config.items() if key in component.keys}
    check_values(path, kept, allow_any_text=bool(component.tokenizer_files))
    for name, keys in component.nested_keys.items():
        table = config.get(name)
        if isinstance(table, dict):
            kept[name] = {key: value for key, value in table.items() if key in keys}
            check_values(path, kept[name])
    return {**kept, **component.fixed_values}


def _check_value(path: Path, key: str, value: Any, allow_any_text: bool, depth: int = 0) -> None:
    if isinstance(value, list | dict):
        if len(value) > MAX_LIST_LENGTH or depth == MAX_DEPTH:
            raise invalid_model(path, f"has more in {key} than any model")
        for each in value.values() if isinstance(value, dict) else value:
            _check_value(path, key, each, allow_any_text, depth + 1)
    elif isinstance(value, str):
        if len(value) > MAX_TEXT_CHARS or not (allow_any_text or PLAIN_NAME.fullmatch(value)):
            raise invalid_model(path, f"names {value:.100} as its {key}")
    elif isinstance(value, int | float) and not abs(value) <= (MAX_INTEGER if isinstance(value, int) else MAX_FLOAT):
        raise invalid_model(path, f"has {value} as its {key}")


def _integers(value: Any) -> Iterator[int]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, list):
            yield from _integers(each)
        elif isinstance(each, int):
            yield each


def _link_weights(source: Path, target: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in weight_files(source)}
    if not sizes:
        raise invalid_model(source, "has no safetensors file of weights")
    for name in sizes:
        tensor_infos(source / name)
        (target / name).symlink_to((source / name).absolute())
    for path in source.iterdir():
        if WEIGHT_INDEX_PATTERN.fullmatch(path.name):
            table = read_config(path).get("weight_map")
            if not isinstance(table, dict) or not all(isinstance(name, str) and name in sizes for name in table.values()):
                raise invalid_model(path, "lists files of weights that are not beside it")
            size = sum(sizes.values())
            (target / path.name).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": table}))


def _copy_tokenizer_files(source: Path, target: Path, component: ComponentSpec) -> None:
    for name in component.tokenizer_files:
        if (source / name).exists():
            with _explain_errors(source / name):
                if name.endswith(".json"):
                    read_json(source / name)
                (target / name).write_bytes(read_bytes(source / name, MAX_TEXT_BYTES))
