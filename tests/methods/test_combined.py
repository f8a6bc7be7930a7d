"""A fine-tuned method combined with an adapter: weights and embeddings in one identity."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.errors import InputError, RecipeError
from tenth.core.types import Identity, MethodResult, Person, Photo
from tenth.data.faces.crops import PhotoDataset
from tenth.experiments import identities as learnt
from tenth.experiments.costs import CostLog
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.runner import run_settings
from tenth.methods.combined import CombinedMethod
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.identity_file import load_identity
from tenth.methods.registry import method, method_parts
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from toy_dreambooth import SETTINGS

LEARNT = DreamBooth("dreambooth-lora", SETTINGS)


@dataclass(frozen=True)
class Ones:
    """An adapter's method that reads no face, since these photos have none."""

    name, tunes_model, keeps_photos = "ones", False, False

    def is_available(self, model: Any) -> bool:
        return True

    def __call__(self, person: Person, model: Any) -> MethodResult:
        embeddings = torch.ones(1, model.encoder.embedding_dim)
        identity = Identity("ones", model.name, model.encoder.name, model.adapter_name, embeddings, photos=("0",))
        return MethodResult(identity, torch.full((len(person.photos),), 0.5), ("all ones",))


def test_both_are_in_force(toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)
    anna = Person("anna", tuple(Photo(each, f"{number:064x}") for number, each in enumerate(pixels)))
    together = CombinedMethod(LEARNT, Ones())
    parts = LEARNT(anna, toy_model).identity, Ones()(anna, toy_model).identity
    result = together(anna, toy_model)
    both = result.identity
    assert both.method == "dreambooth-lora+ones"
    assert both.trigger_phrase == parts[0].trigger_phrase
    assert set(both.weights) == set(parts[0].weights)
    assert both.embeddings is not None
    assert both.embeddings.tolist() == torch.ones(1, 128).tolist()
    samples = generate(toy_model, [Request(each, "a photo of a person", 0) for each in (*parts, both)], SamplingConfig(steps=2))
    alone, adapted, drawn = [sample.pixels.astype(int) for sample in samples]
    assert min(np.abs(drawn - alone).max(), np.abs(drawn - adapted).max()) > 0
    assert result.photo_weights is not None
    assert result.photo_weights.tolist() == [0.5, 0.5]
    assert result.warnings[-1] == "all ones"
    assert 'the person is "' in result.warnings[0]


def test_an_experiment_takes_what_its_other_method_has_trained(
    toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    calls: list[str] = []

    class Counted(DreamBooth):
        def __call__(self, person: Person, model: Any) -> MethodResult:
            calls.append(person.name)
            return super().__call__(person, model)

    counted = Counted(LEARNT.name, LEARNT.settings)

    one, other = "dreambooth-lora", "ip-adapter-avg"
    known = {one: counted, other: Ones(), f"{one}+{other}": CombinedMethod(counted, Ones())}
    monkeypatch.setattr(learnt, "method", known.__getitem__)
    people = PhotoDataset(tmp_path / "people.jsonl", tmp_path)
    recipe = ExperimentRecipe(people, "validation", methods=(one, f"{one}+{other}"), references=2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)
    anna = Person("000", tuple(Photo(each, f"{number:064x}") for number, each in enumerate(pixels)))

    def both(asked: ExperimentRecipe, output: Path) -> Identity:
        output.mkdir()
        assert learnt.create_identities(asked, toy_model, anna, (), output, CostLog(output / "costs.jsonl")) == []
        (condition,) = asked.conditions
        return load_identity(learnt.identity_paths(asked, condition, f"{one}+{other}", "000", output)[0])

    taken, again = both(recipe, tmp_path / "taken"), both(replace(recipe, methods=(f"{one}+{other}",)), tmp_path / "again")
    assert calls == ["000", "000"]
    assert taken.method == again.method == "dreambooth-lora+ones"
    assert taken.weights.keys() == again.weights.keys()
    assert all(torch.equal(taken.weights[name], again.weights[name]) for name in taken.weights)
    alone, together = (json.loads(line) for line in (tmp_path / "taken/costs.jsonl").read_text().splitlines())
    assert together["seconds"] >= alone["seconds"] > 0


def test_names() -> None:
    both = method("dreambooth+ip-adapter-consensus")
    assert both.tunes_model
    assert both.name == "dreambooth+ip-adapter-consensus"
    assert both == CombinedMethod(method("dreambooth"), method("ip-adapter-consensus"))
    for wrong in ("ip-adapter-consensus+dreambooth", "dreambooth+dreambooth-lora", "ip-adapter+ip-adapter-avg"):
        with pytest.raises(RecipeError, match="that fine-tunes for each person, a plus"):
            method(wrong)
    for unknown in ("dreambooth+nothing", "+ip-adapter", "dreambooth+"):
        with pytest.raises(InputError, match="method"):
            method(unknown)


def test_of_a_pair_both_recipes_are_settings(toy_model: Any, tmp_path: Path) -> None:
    for name in ("apart.toml", "kept.toml"):
        (tmp_path / name).write_text('method = "dreambooth"\n')
    names = [f"{tmp_path / 'apart.toml'}+ip-adapter-avg", "dreambooth", str(tmp_path / "kept.toml")]
    assert method_parts([*names, "dreambooth"]) == [names[0].partition("+")[0], "ip-adapter-avg", "dreambooth", names[2]]
    (tmp_path / "one+two").mkdir()  # a trained method's folder
    assert method_parts([str(tmp_path / "one+two")]) == [str(tmp_path / "one+two")]

    (tmp_path / "people.jsonl").touch()
    recipe = ExperimentRecipe(data=PhotoDataset(tmp_path / "people.jsonl", tmp_path), split="validation", methods=tuple(names))
    before = run_settings(recipe, toy_model, ())["tuned_methods"]
    (tmp_path / "apart.toml").write_text('method = "dreambooth-lora"\n')
    after = run_settings(recipe, toy_model, ())["tuned_methods"]
    assert [before[name] == after[name] for name in before] == [False, True]
