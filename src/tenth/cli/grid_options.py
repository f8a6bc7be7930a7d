"""--grid of `tenth generate`, beside the other options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from tenth.core.errors import RecipeError

if TYPE_CHECKING:
    from tenth.sampling.prompts.grid import Axis, Grid

ONE_IMAGE = "--grid makes one image of each cell: leave it out"
# Options that do not go with any grid, and why.
APART = {"prompts": "--grid has its own prompts: leave it out", "num_images": ONE_IMAGE, "candidates": ONE_IMAGE}
FLAGS = {"num_images": "-n"}


def combine_axes(axes: Sequence[Axis] | None, options: Mapping[str, Any]) -> Grid | None:
    """The grid of these axes; None without any. options: the others of the command by name, None where one is not given.

    Raises typer.BadParameter for axes that are no grid, and options that an axis has, or that do not go with a grid.
    """
    if not axes:
        return None
    from tenth.sampling.prompts.grid import Grid

    try:
        grid = Grid(tuple(axes))
    except RecipeError as problem:
        raise typer.BadParameter(str(problem), param_hint="--grid") from problem
    own = {axis.name: "an axis of --grid has its values: leave it out" for axis in axes}
    if "scheduler" in own:
        own["fast"] = "it names a scheduler, which is an axis of --grid: leave it out"
    for name, message in {**APART, **own}.items():
        if options.get(name) is not None:
            raise typer.BadParameter(message, param_hint=FLAGS.get(name, f"--{name.replace('_', '-')}"))
    prompts = options.get("prompt") or []
    if len(prompts) > 1:
        raise typer.BadParameter('several are an axis: --grid "prompt=A|B"', param_hint="--prompt")
    return grid
