"""A model's folder as diffusers and transformers may see it: a private one, in which nothing names what is not there.

Their loaders do what a folder says: they take a class by its name, a kernel of a hub, an adapter that lies beside the weights.
So a folder that somebody gives is never theirs to read. Of each configuration the keys that its part knows are copied, their
values checked; files of weights, of which the headers were read, are linked; everything else stays where it is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tenth.core.errors import ModelError
from tenth.core.file_reading import TEXT_BYTES, UnreadableError, open_regular, read_json, reason
from tenth.core.tensor_reading import FLOATS, Described, check_numbers, read_header

if TYPE_CHECKING:
    from torch import nn


FILES = re.compile(r"(model|diffusion_pytorch_model)(-\d{1,5}-of-\d{1,5})?\.safetensors")
LISTS = re.compile(r"(model|diffusion_pytorch_model)\.safetensors\.index\.json")  # which file has which tensor
MOST_WHOLE, MOST_NUMBER = 10_000_000, 1e9  # of a number in a configuration
MOST_PARTS = 1_000  # layers times blocks; of SDXL's UNet 60
COUNTS, BLOCKS = re.compile(r"layers|blocks$"), re.compile("block")  # in the keys of numbers and of lists that multiply
LONGEST_LIST, LONGEST_TEXT, DEEPEST = 10_000, 1_000, 4
WORD = re.compile(r"[\w.-]*", re.ASCII)  # a class, an activation, a kind; never a path or a repository


@dataclass(frozen=True)
class Part:
    """One folder of a model. keys: what of its configuration is passed on; `fixed` stands in it whatever the file says.

    base: the table that is the configuration, where a file has it among others. inner: keys of tables that stay tables.
    vocabulary: files of a tokenizer, each there or not; then texts in the configuration may be any.
    """

    keys: Collection[str]
    config: str = "config.json"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    inner: Mapping[str, Collection[str]] = field(default_factory=dict)
    weights: bool = True
    vocabulary: tuple[str, ...] = ()


TOKENIZER = Part(
    keys=(
        *("model_max_length", "do_lower_case", "add_prefix_space", "bos_token", "eos_token", "pad_token", "unk_token"),
        *("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "clean_up_tokenization_spaces"),
        "errors",
    ),
    config="tokenizer_config.json",
    weights=False,
    vocabulary=("vocab.json", "merges.txt", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
)


@contextmanager
def vetted(folder: Path, parts: Mapping[str, Part], index: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """The private folder, while the block runs. parts: by the names of their folders; "": the folder itself.

    index: what its model_index.json says, if it has one. Raises ModelError if a file is missing, or is not what it has to be.
    """
    with TemporaryDirectory(prefix="tenth-") as made:
        safe = Path(made)
        if index is not None:
            (safe / "model_index.json").write_text(json.dumps(index))
        for name, part in parts.items():
            (safe / name).mkdir(exist_ok=True)
            _copy_vocabulary(folder / name, safe / name, part)
            if part.weights:
                _link_weights(folder / name, safe / name)
            settings = _settings(folder / name / part.config, part)
            (safe / name / part.config).write_text(json.dumps(settings))
        yield safe


def read_config(path: Path) -> dict[str, Any]:
    """The table in a JSON file of a model. Raises ModelError."""
    try:
        config = read_json(path)
    except (OSError, UnreadableError) as problem:
        raise unfit(path, reason(problem)) from problem
    if not isinstance(config, dict):
        raise unfit(path, "is no table")
    return config


def check_values(path: Path, table: Mapping[str, Any], *, texts: bool = False) -> None:
    """Raises ModelError unless the values are such as a configuration has. texts: they may be any, not words alone."""
    count = 1
    for key, value in table.items():
        _check_value(path, key, value, texts)
        if COUNTS.search(key):
            count *= max([1, *_whole_numbers(value)])
    count *= max([1, *(len(value) for key, value in table.items() if BLOCKS.search(key) and isinstance(value, list))])
    if count > MOST_PARTS:
        raise unfit(path, f"asks for {count} layers")


def weights_in(folder: Path) -> list[Path]:
    """The files of one part's weights. Raises ModelError if the folder cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if FILES.fullmatch(path.name))
    except OSError as problem:
        raise unfit(folder, reason(problem)) from problem


def described_in(folder: Path) -> dict[str, Described]:
    """Every tensor of one part by name, from its files' headers. Raises ModelError."""
    found: dict[str, Described] = {}
    for path in weights_in(folder):
        found |= described(path)
    return found


def described(path: Path) -> dict[str, Described]:
    """Every tensor of one file by name, from its header. Raises ModelError."""
    try:
        return read_header(path)[1]
    except (OSError, UnreadableError) as problem:
        raise unfit(path, reason(problem)) from problem


def check_fit(build: Callable[[], nn.Module], weights: Mapping[str, Described], folder: Path) -> nn.Module:
    """The module that a configuration describes, without memory for its weights. build: makes it.

    Raises ModelError unless it can be made, and the weights are its own: a tensor of each shape, by its name or an older one.
    """
    import torch

    try:
        with torch.device("meta"):
            module = build()
    except Exception as problem:  # a library's constructor meets a foreign configuration: it may fail in any way
        raise unfit(folder, f"has a configuration of nothing that can be made ({short(problem)})") from problem
    wanted = {name: (tuple(value.shape), value.is_floating_point()) for name, value in module.state_dict().items()}
    left = Counter(each.shape for name, each in weights.items() if name not in wanted and each.dtype in FLOATS)
    for name, (shape, floats) in wanted.items():
        found = weights.get(name)
        if found is None:
            left[shape] -= 1
        elif found.shape != shape or (floats and found.dtype not in FLOATS):
            raise unfit(folder, f"has {name} as {found.dtype} {found.shape}, where its configuration asks for {shape}")
        if found is None and left[shape] < 0 and floats:
            raise unfit(folder, f"has no {name} of {shape}, for which its configuration asks")
    return module


def check_finite(module: nn.Module, folder: Path) -> None:
    """Raises ModelError if a weight is not a finite number. Some GB a second, and no copy."""
    try:
        check_numbers(dict(module.named_parameters()) | dict(module.named_buffers()))
    except UnreadableError as problem:
        raise unfit(folder, str(problem)) from problem


def unfit(path: Path, found: str) -> ModelError:
    """The error for a part of a model."""
    return ModelError(f"{path} {found}", "a whole model of a known kind is needed", "Get it again, or choose another")


def short(problem: BaseException) -> str:
    """The first line of what a library says, as much of it as a message can hold."""
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return f"{lines[0]:.200}"


def _settings(path: Path, part: Part) -> dict[str, Any]:
    if part.vocabulary and not path.exists():
        return dict(part.fixed)
    config = read_config(path)
    if isinstance(config.get(part.base), dict):
        config = config[part.base]
    kept = {key: value for key, value in config.items() if key in part.keys}
    check_values(path, kept, texts=bool(part.vocabulary))
    for name, keys in part.inner.items():
        table = config.get(name)
        if isinstance(table, dict):
            kept[name] = {key: value for key, value in table.items() if key in keys}
            check_values(path, kept[name])
    return {**kept, **part.fixed}


def _check_value(path: Path, key: str, value: Any, texts: bool, depth: int = 0) -> None:
    if isinstance(value, list | dict):
        if len(value) > LONGEST_LIST or depth == DEEPEST:
            raise unfit(path, f"has more in {key} than any model")
        for each in value.values() if isinstance(value, dict) else value:
            _check_value(path, key, each, texts, depth + 1)
    elif isinstance(value, str):
        if len(value) > LONGEST_TEXT or not (texts or WORD.fullmatch(value)):
            raise unfit(path, f"names {value:.100} as its {key}")
    elif isinstance(value, int | float) and not abs(value) <= (MOST_WHOLE if isinstance(value, int) else MOST_NUMBER):
        raise unfit(path, f"has {value} as its {key}")


def _whole_numbers(value: Any) -> Iterator[int]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, list):
            yield from _whole_numbers(each)
        elif isinstance(each, int):
            yield each


def _link_weights(source: Path, target: Path) -> None:
    paths = weights_in(source)
    if not paths:
        raise unfit(source, "has no safetensors file of weights")
    for path in paths:
        described(path)
        (target / path.name).symlink_to(path.absolute())
    for path in source.iterdir():
        if LISTS.fullmatch(path.name):
            table = read_config(path).get("weight_map")
            names = {each.name for each in paths}
            if not isinstance(table, dict) or not all(isinstance(name, str) and name in names for name in table.values()):
                raise unfit(path, "lists files of weights that are not beside it")
            size = sum(each.stat().st_size for each in paths)
            (target / path.name).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": table}))


def _copy_vocabulary(source: Path, target: Path, part: Part) -> None:
    for name in part.vocabulary:
        if not (source / name).exists():
            continue
        try:
            if name.endswith(".json"):
                read_json(source / name)
            with open_regular(source / name, TEXT_BYTES) as file, (target / name).open("wb") as copy:
                shutil.copyfileobj(file, copy)
        except (OSError, UnreadableError) as problem:
            raise unfit(source / name, reason(problem)) from problem
