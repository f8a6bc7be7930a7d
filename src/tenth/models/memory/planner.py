"""What memory there is and what a model needs -> the rung of a ladder that fits, and the line that announces it.

Above are the rungs that cost least, below those that need least. Nothing here loads a weight.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tenth.core.errors import ModelError, unknown_name
from tenth.models.memory.footprint import Part, Sizes, activations
from tenth.models.memory.system import Machine

DEVICE, RUNG = "TENTH_DEVICE", "TENTH_RUNG"  # environment variables, for what no option was given
RESERVE = 500_000_000  # bytes that stay free for everybody else
SMALL = 250_000_000  # numbers; a model with fewer is drawn in float32, on the CPU unless a device is asked for
BATCH = 4  # images at a time: on two cores larger batches are no faster
BFLOAT16 = (8, 0)  # the compute capability from which a GPU has bfloat16, which overflows no more than float32


@dataclass(frozen=True)
class Rung:
    """One way to hold a model. cost: what it costs against the first rung, for the announcement."""

    name: str
    weights: Literal["float32", "half", "mapped"] = "half"  # mapped: in the files, read again where there is no room
    batch: int = BATCH  # images at a time, at most
    tiled: bool = False  # the autoencoder decodes one image at a time, in tiles
    offloaded: bool = False  # weights are on the GPU only while their layer runs
    cost: str = ""


# fmt: off
CPU = (
    Rung("float32",    "float32", cost="nothing"),
    Rung("half",       "half",    cost="weights kept in 16 bits, widened layer by layer: some seconds more for a step"),
    Rung("half-alone", "half",    1, cost="as half, one image at a time"),
    Rung("half-tiled", "half",    1, True, cost="as half-alone, decoded in tiles: pixels may differ where they meet"),
    Rung("mapped",     "mapped",  1, True, cost="as half-tiled, weights read from the files again in each step: slow without a fast disk"),  # noqa: E501
)
GPU = (
    Rung("float32",    "float32", cost="twice the memory and time of half"),
    Rung("half",       "half",    cost="pictures differ slightly from a CPU's"),
    Rung("half-alone", "half",    1, cost="as half, one image at a time"),
    Rung("half-tiled", "half",    1, True, cost="as half-alone, decoded in tiles: pixels may differ where they meet"),
    Rung("offloaded",  "half",    1, True, True, cost="as half-tiled, weights fetched layer by layer: many times slower"),
)
# fmt: on


@dataclass(frozen=True)
class Use:
    """What a model is loaded for. pixels: the side of the images, 0 for the model's own. images: at a time.

    whole: all weights in float32, which learning and exporting need. device, rung: by name, "" for what fits best.
    """

    device: str = ""
    rung: str = ""
    pixels: int = 0
    images: int = BATCH
    whole: bool = False


@dataclass(frozen=True)
class Fit:
    """The rung on which a model stands, and where. half: the 16-bit type of a GPU. need, have: bytes, None where unknown."""

    rung: Rung = CPU[0]
    device: str = "cpu"
    half: str = "float16"
    need: int | None = None
    have: int | None = None
    small: bool = True

    @property
    def announced(self) -> str:
        """One line for the user; none for a small model, of which there is nothing to say."""
        if self.small:
            return ""
        have = "what there is, this system does not say" if self.have is None else f"{self.have / 1e9:.1f} GB are free"
        need = "" if self.need is None else f"needs about {self.need / 1e9:.1f} GB, "
        return f"memory on {self.device}: {need}{have}; {self.rung.name}: {self.rung.cost}"

    @property
    def recorded(self) -> dict[str, Any]:
        """What an image's settings say of it: on another rung the pixels may differ slightly. Of a small model nothing."""
        return {} if self.small else {"device": self.device, "rung": self.rung.name}


PLAIN = Fit()  # float32 on the CPU: small models, and whatever is not on the ladder
ANY = Use()


def fitted(sizes: Sizes, use: Use, machine: Machine) -> Fit:
    """The first rung that fits into the machine.

    Raises ModelError if none does or the device is not there, InputError for a rung of another name.
    """
    small = sizes.count < SMALL and not use.rung
    device = chosen_device(use.device, machine, small=small)
    here = GPU if device != "cpu" else CPU
    have = machine.gpu if device != "cpu" else machine.cpu
    half = "bfloat16" if machine.capability >= BFLOAT16 else "float16"
    if small:
        return Fit(here[0], device, half, have=have)
    rungs = allowed(here, use)
    needs = [needed(sizes, rung, use, device) for rung in rungs]
    for rung, need in zip(rungs, needs, strict=True):
        host = weights(sizes, rung, narrowing=False) if rung.offloaded else 0
        if (have is None or need + RESERVE <= have) and (machine.cpu is None or host + RESERVE <= machine.cpu):
            return Fit(rung, device, half, need, have, small=False)
    raise ModelError(
        f"{(have or 0) / 1e9:.1f} GB of memory are free on {device}",
        f"about {(min(needs) + RESERVE) / 1e9:.1f} GB are needed ({rungs[-1].name})",
        "Close other programs, draw smaller images, or choose a smaller model",
    )


def chosen_device(name: str, machine: Machine, *, small: bool) -> str:
    """Where a model runs: as asked, else a large one on the GPU if there is one. Raises ModelError if torch finds none."""
    if name not in ("", "cpu", "cuda"):
        raise unknown_name("device", name, ["cpu", "cuda"], "Correct --device or TENTH_DEVICE")
    if name == "cuda" and machine.gpu is None:
        raise ModelError("torch finds no GPU here", "one is needed for --device cuda", "Leave it out, or install torch for it")
    return name or ("cpu" if machine.gpu is None or small else "cuda")


def allowed(ladder: Sequence[Rung], use: Use) -> list[Rung]:
    """The rungs that may be chosen. Raises InputError for an unknown name, ModelError for one that the use cannot be on."""
    if use.rung and use.rung not in [rung.name for rung in ladder]:
        raise unknown_name("rung", use.rung, [rung.name for rung in ladder], "docs/models.md says what each does")
    whole = [rung for rung in ladder if rung.weights == "float32"]
    narrower = [rung for rung in ladder if ladder is CPU or rung.weights != "float32"]
    named = [rung for rung in ladder if rung.name == use.rung]
    if use.whole and named and named[0] not in whole:
        raise ModelError(f"the rung {use.rung}", "learning and exporting need float32", f"Set {RUNG}=float32, or leave it out")
    return named or (whole if use.whole else narrower)


def below(fit: Fit) -> Fit:
    """The next rung down, after a GPU ran out of memory. Raises ModelError if there is none."""
    ladder = GPU if fit.device != "cpu" else CPU
    lower = ladder[ladder.index(fit.rung) + 1 :]
    if fit.small or fit.rung.weights == "float32" or not lower:
        raise ModelError(
            f"{fit.device} ran out of memory on the last rung, {fit.rung.name}",
            "more memory is needed",
            "Close other programs, draw smaller images, or set TENTH_DEVICE=cpu",
        )
    return replace(fit, rung=lower[0], need=None)


def needed(sizes: Sizes, rung: Rung, use: Use, device: str = "cpu") -> int:
    """Bytes that must be free to load and draw on a rung: weights and activations. The libraries' own are taken already."""
    bits = 32 if device == "cpu" or rung.weights == "float32" else 16
    images, pixels = min(use.images, rung.batch), use.pixels or sizes.pixels
    held = 0 if rung.offloaded else weights(sizes, rung, narrowing=device == "cpu")
    return held + activations(sizes, images, pixels=pixels, tiled=rung.tiled, bits=bits)


def weights(sizes: Sizes, rung: Rung, *, narrowing: bool = True) -> int:
    """Bytes of weights that stay in memory. narrowing: the autoencoder, embeddings and norms stay float32 (narrow.py)."""

    def held(name: str, part: Part) -> int:
        if rung.weights == "float32":
            return 4 * part.count
        if not narrowing:
            return 2 * part.count
        mapped = rung.weights == "mapped"
        if mapped and part.dtype == "F32":
            return 0
        if name == "vae":
            return 4 * part.count
        return (0 if mapped else 2 * part.matrices) + 4 * part.others

    return sum(held(name, part) for name, part in sizes.parts.items())


def asked(use: Use) -> Use:
    """The use with what the environment says where the use itself says nothing."""
    return replace(use, device=use.device or os.environ.get(DEVICE, ""), rung=use.rung or os.environ.get(RUNG, ""))
