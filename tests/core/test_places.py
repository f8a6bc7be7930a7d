from __future__ import annotations

from pathlib import Path

from tenth.core.run_record import replace_paths, short_path_names


def test_a_path_is_called_by_as_many_parts_as_tell_it_from_the_others() -> None:
    settings = {
        "data": {"people": "/home/x/lfw/people.jsonl", "photos": "/home/x/lfw/photos"},
        "recognizers": ["dlib", "judges/casia.toml", "/home/x/sface.toml"],
        "model": "/models/photos",
        "methods": ["ip-adapter", "/runs/one/final", "/runs/two/final", "/y/z/best", "/home/x/a.toml+ip-adapter", "/"],
        "prompt": "/not/a/path",
    }
    names = {path: name for path, name in short_path_names(settings).items() if path not in (str(Path.cwd()), str(Path.home()))}
    assert names == {
        "/home/x/lfw/people.jsonl": "people.jsonl",
        "/home/x/lfw/photos": "lfw/photos",
        "/models/photos": "models/photos",
        "/home/x/sface.toml": "sface.toml",
        "/runs/one/final": "one/final",
        "/runs/two/final": "two/final",
        "/y/z/best": "z/best",
        "/home/x/a.toml": "a.toml",
        "/": "folder",
    }


def test_paths_go_from_texts_keys_and_lists_and_nothing_else_does() -> None:
    names = {"/home/anna": "~", "/home/anna/runs/one": "one"}
    value = {"/home/anna/runs/one": [1, None, "no /home/anna/x, nor /home/anna."], "b": ("/home/anna-maria", "/home/anna2/x")}
    assert replace_paths(value, names) == {
        "one": [1, None, "no ~/x, nor ~."],
        "b": ["/home/anna-maria", "/home/anna2/x"],
    }


def test_who_uses_this_machine_and_where_is_not_said() -> None:
    names = short_path_names({})
    assert replace_paths(f"{Path.cwd()}/data is missing", names) == "./data is missing"
    assert replace_paths(f"{Path.home()}/x" if Path.home() != Path("/") else "~/x", names) == "~/x"
