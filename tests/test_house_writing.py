"""A law of the house, read from the source: every file is written by file_writing.py, whole and onto the disk.

What that one does in which order is watched in test_files_written.py; what commands really open, in test_writing_watched.py.
"""

from __future__ import annotations

import ast
import re

import pytest

from house_source import Source, last_name, sources

# Who writes files itself.
WRITERS = {
    *("src/tenth/core/files/writing.py", "src/tenth/core/files/claims.py"),
    *(
        "src/tenth/models/hub/download.py",
        "src/tenth/models/hub/client.py",
        "src/tenth/models/hub/lockfile.py",
        "src/tenth/evaluation/extractors/inception_weights.py",
    ),  # growing
    "src/tenth/models/hub/transfer.py",  # which lets them grow
    "src/tenth/models/model_folder.py",  # a private folder that is removed when a model is loaded
    "src/tenth/core/console.py",  # where a closed stream writes to: nowhere
    "src/tenth/training/monitoring.py",  # curves, which grow too
    "src/tenth/training/frozen_network.py",  # a file that has no name
    "src/tenth/experiments/costs.py",  # a switch of Linux that looks like a file
}
METHODS = {"rename", "write_text", "write_bytes", "touch", "mkstemp", "copyfile", "copy2", "move", "copytree", "symlink_to"}
OTHER_CALLS = {"open", "replace", "save", "savez", "tofile", "save_file"}  # which write in some of their forms
PLACES = {"path", "file", "folder", "target", "output", "partial"}  # of an argument: not something in memory
WRITE_MODE = re.compile(r"'\w*[wax+][\w+]*'")


def writes(node: ast.AST) -> bool:
    """Whether it is a call that gives a file a name or content."""
    if not isinstance(node, ast.Call) or last_name(node.func) not in METHODS | OTHER_CALLS:
        return False
    (of, dot, name), arguments = ast.unparse(node.func).rpartition("."), [ast.unparse(argument) for argument in node.args]
    if name == "open":
        modes = [*arguments, *(ast.unparse(each.value) for each in node.keywords)]
        return any(WRITE_MODE.fullmatch(mode) or "O_CREAT" in mode for mode in modes)
    if name == "replace":  # of text it has two arguments, of a dataclass no dot, of a date keywords
        return of == "os" or (dot == "." and len(arguments) == 1 and not node.keywords)
    if name in ("save", "savez", "tofile"):
        return dot == "." and any(text in PLACES or " / " in text for text in arguments)
    return name == "save_file" or (dot == "." and name in METHODS)


def breaches(source: Source) -> list[str]:
    return [f"{source.path}:{node.lineno}: {ast.unparse(node)[:80]}" for node in source.nodes if writes(node)]  # type: ignore[attr-defined]


def test_files_are_written_in_one_place() -> None:
    found = [each for file in sources("src/tenth") if file.path not in WRITERS for each in breaches(file)]
    assert not found, "\n".join(["files are written by file_writing.py:", *found])


@pytest.mark.parametrize(
    "text",
    [
        "partial.replace(path)",
        "os.replace(partial, path)",
        "partial.rename(folder)",
        "path.write_text('a')",
        "(folder / 'a').write_bytes(content)",
        "save_file(tensors, path)",
        "safetensors.torch.save_file(tensors, path)",
        "open(path, 'w')",
        "path.open('ab')",
        "path.open(mode='x')",
        "os.open(path, os.O_RDWR | os.O_CREAT)",
        "Image.fromarray(pixels).save(folder / 'a.png')",
        "np.save(file, array)",
        "shutil.copyfile(one, two)",
    ],
)
def test_what_writes_is_noticed(text: str) -> None:
    assert len(breaches(Source("src/tenth/core/run_record.py", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "text.replace('a', 'b')",
        "replace(settings, steps=1)",
        "path.open('rb')",
        "open(path)",
        "image.save(content, 'PNG')",
        "write_text(path, text)",
        "np.save(content, array)",
    ],
)
def test_what_does_not_is_not(text: str) -> None:
    assert breaches(Source("src/tenth/core/run_record.py", text)) == []
