"""The options of `tenth generate` -> the request for images, and the picture that these start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from tenth.sampling.bounds import MODEL_SCHEDULER
from tenth.sampling.schedulers import fast_settings

if TYPE_CHECKING:
    from tenth.experiments.generation.request import ImageRequest
    from tenth.sampling.passes.start_image import StartImage
    from tenth.sampling.prompts.grid import Grid
    from tenth.sampling.prompts.rows import PromptRow


def check_together(options: Mapping[str, Any], axes: Sequence[str]) -> None:
    """Raises typer.BadParameter for options that do not go together. axes: those of a grid, by name."""
    if not (options["prompt"] or "prompt" in axes or options["prompts"] or options["settings_from"]):
        raise typer.BadParameter("it is needed, or --settings-from or --prompts", param_hint="--prompt")
    if options["prompt"] and options["prompts"]:
        raise typer.BadParameter("its file has the prompts: leave out --prompt", param_hint="--prompts")
    if options["styles"] and not (options["style"] or "style" in axes):
        raise typer.BadParameter("it is for --style, which names one of its styles", param_hint="--styles")
    if options["fast"] and options["scheduler"]:
        raise typer.BadParameter("it names a scheduler: leave out --scheduler", param_hint="--fast")
    if options["fast"] and options["model"] == "pocket":
        raise typer.BadParameter("it is for distilled models and LoRAs of Stable Diffusion", param_hint="--fast")
    if options["candidates"] and options["people"]:
        raise typer.BadParameter("it ranks images of one person: leave it out with --person", param_hint="--candidates")


def request_fields(options: Mapping[str, Any], rows: Sequence[PromptRow], grid: Grid | None) -> dict[str, Any]:
    """The fields of `ImageRequest` that the options of the command give, None where one is not given.

    rows: the prompts; with a grid its cells, of which the first one's settings are the request's.
    """
    from tenth.sampling.prompts.grid import SETTINGS

    sampling = {name: options[option] for option, name in SETTINGS.items()} | {"negative_prompt": options["negative_prompt"]}
    if options["fast"]:
        sampling |= {name: value for name, value in fast_settings(options["fast"]).items() if sampling.get(name) is None}
    if sampling["scheduler"] == MODEL_SCHEDULER:
        sampling["scheduler"] = ""
    seed = options["seed"]
    if grid:
        first = rows[0]
        sampling |= first.sampling
        seed = seed if first.seed is None else first.seed
        sampling |= {} if first.negative_prompt is None else {"negative_prompt": first.negative_prompt}
    same = ("candidates", "keep_all", "method", "model", "strength", "face_detailer", "style")
    texts = {name: None if options[name] is None else str(options[name]) for name in ("size", "image", "mask")}
    return {
        **{name: options[name] for name in same},
        **texts,
        "prompts": tuple(row.prompt for row in rows) or None,
        "num_images": options["num_images"] or (1 if grid or options["prompts"] else None),
        "seed": seed,
        "sampling": sampling,
    }


def open_start(request: ImageRequest, recorded: Mapping[str, Any]) -> tuple[StartImage | None, list[str]]:
    """As `plan.open_start`, and notes. recorded: what an image whose settings are taken says of its start."""
    from tenth.experiments.generation import plan

    start = plan.open_start(request)
    if start is None:
        return None, _missing_notes(recorded)
    notes = []
    for name, key in (("start image", "sha256"), ("mask", "mask_sha256")):
        if recorded and recorded.get(key) != start.metadata["start_image"].get(key):
            notes.append(f"--settings-from had another {name} than this command: the images will be others")
    return start, notes


def _missing_notes(recorded: Mapping[str, Any]) -> list[str]:
    """That the start image of an image whose settings are taken is not given."""
    if not recorded:
        return []
    mask = ", and its mask with --mask" if "mask_sha256" in recorded else ""
    text = f"--settings-from was made from a start image (sha256 {recorded['sha256'][:16]}...), which no PNG holds"
    return [f"{text}: give it again with --image{mask}; without it the images will be others"]
