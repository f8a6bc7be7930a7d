"""Images of a frontier on disk -> its record: every point, each method's area, and the differences of all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np

from tenth.core.config import require
from tenth.core.types import Features, Score
from tenth.evaluation.cross_fitting import Values
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder
from tenth.evaluation.extractors.features import Extractor, extract_cached
from tenth.evaluation.frontier import compare_frontiers, on_frontier
from tenth.evaluation.image_set import load_image
from tenth.evaluation.metrics.identity import PersonScores, identity_similarity_per_person, score_of_shares, score_over_people
from tenth.evaluation.metrics.prompt_alignment import PER_PERSON, PromptScorer
from tenth.evaluation.registry import METRICS
from tenth.experiments.frontier.grid import PROMPT_METRICS, FrontierConfig, FrontierSetting
from tenth.experiments.frontier.images import FrontierJobs, PersonJobs
from tenth.experiments.protocol import EvaluatedPerson
from tenth.experiments.recipe import Condition

JsonDict = dict[str, Any]
Point = tuple[str, FrontierSetting | None]  # method and setting
NOTHING_ASKED = "too few prompts ask for anything that can be read"
NO_IMPOSTOR = "an image has no face, and there is no other person to measure an impostor's similarity on"


@dataclass(frozen=True, eq=False)
class FrontierScores:
    """What measures a frontier. people: with the recognizers' embeddings of their photos, in the same order."""

    frontier: FrontierConfig
    condition: Condition
    people: Sequence[EvaluatedPerson]
    recognizers: Mapping[str, FaceEmbedder]
    scorer: PromptScorer

    def records(self, jobs: FrontierJobs) -> Iterator[JsonDict]:
        """The frontier by each recognizer, as run.json has it."""
        prompts = {key: self._prompt_scores(people) for key, people in jobs.items()}
        for index, (label, recognizer) in enumerate(self.recognizers.items()):
            rows = [(who.person_id, who.held_out[index]) for who in self.people]
            held_out = Features(np.concatenate([part for _, part in rows]), tuple(who for who, part in rows for _ in part))
            kept = {
                key: identity_similarity_per_person(_features(people, recognizer), held_out) for key, people in jobs.items()
            }
            yield {
                "prompt_set": self.frontier.prompt_set,
                "num_photos": self.condition.num_photos,
                "num_impostors": self.condition.num_impostors,
                "prompt_metric": self.frontier.prompt_metric,
                "recognizer": label,
                "reference_point": self.frontier.reference_point,
            } | compare_methods(self.frontier, prompts, kept)

    def _prompt_scores(self, people: PersonJobs) -> PersonScores:
        return PER_PERSON[METRICS[self.frontier.prompt_metric].function](_features(people, self.scorer), self.scorer)


def compare_methods(
    frontier: FrontierConfig, prompts: Mapping[Point, PersonScores], kept: Mapping[Point, PersonScores]
) -> JsonDict:
    """Methods and differences in run.json; without any, why. prompts, kept: the same people at each point."""
    values: dict[str, dict[FrontierSetting | None, Values]] = {}
    for name, setting in prompts:
        obeyed, similar = prompts[name, setting], kept[name, setting]
        if not obeyed or not np.isfinite(list(similar.values())).all():
            return {"methods": [], "differences": [], "unavailable": NO_IMPOSTOR if obeyed else NOTHING_ASKED}
        values.setdefault(name, {})[setting] = np.array([(obeyed[who], similar[who]) for who in similar])  # (P, 2)

    # A method of one point has it at every setting.
    stacked = {name: np.stack(list(points.values()), 1) for name, points in values.items()}  # (P, S, 2)
    stacked = {name: np.broadcast_to(each, (len(each), len(frontier.settings), 2)) for name, each in stacked.items()}
    areas, differences = compare_frontiers(stacked, frontier.reference_point)
    methods = [
        {"method": name, "area": asdict(areas[name]), "points": _points(frontier, points)} for name, points in values.items()
    ]
    return {"methods": methods, "differences": [asdict(each) for each in differences], "unavailable": ""}


def frontier_scorer(frontier: FrontierConfig, scorers: Sequence[PromptScorer]) -> PromptScorer:
    """The scorer that the prompt metric needs. Raises RecipeError if there is none."""
    metric = METRICS[frontier.prompt_metric]
    found = [scorer for scorer in scorers if scorer.kind in metric.needs]
    known = [name for name in PROMPT_METRICS if {scorer.kind for scorer in scorers} & set(METRICS[name].needs)]
    expected = f"one that this recipe can measure: {', '.join(known) or 'none without clip_model'}"
    require(bool(found), "frontier.prompt_metric", frontier.prompt_metric, expected)
    return found[0]


def _points(frontier: FrontierConfig, points: Mapping[FrontierSetting | None, Values]) -> list[JsonDict]:
    """Each setting's means over people, (P, 2) each, with their intervals."""
    of_prompts = score_over_people if frontier.prompt_metric == "clip-score" else score_of_shares
    best = on_frontier(np.stack([each.mean(0) for each in points.values()]))
    return [
        {
            "text_guidance_scale": setting and setting.text_guidance_scale,
            "ip_adapter_scale": setting and setting.ip_adapter_scale,
            "prompt": _mean(each[:, 0], of_prompts),
            "person": _mean(each[:, 1], score_over_people),
            "on_frontier": bool(is_best),
        }
        for (setting, each), is_best in zip(points.items(), best, strict=True)
    ]


def _mean(values: Values, score_of: Callable[[PersonScores], Score]) -> JsonDict:
    """Over people, (P,), with the interval of any metric over people."""
    score = score_of({str(index): float(value) for index, value in enumerate(values)})
    return {"value": score.value, "low": score.low, "high": score.high, "n": score.n}


def _features(people: PersonJobs, extractor: Extractor) -> Features:
    """Features (N, D) of all images, each with its person and prompt."""
    jobs = list(chain.from_iterable(people.values()))
    tags = tuple(who for who, images in people.items() for _ in images)
    return Features(extract_cached((load_image(job.path) for job in jobs), extractor), tags, tuple(job.prompt for job in jobs))
