"""`tenth generate`: photos or an identity file, and a prompt -> n PNGs and run.json. The PNGs' paths go to stdout.

Heavy imports happen inside the functions, so that `tenth --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tenth.cli.image_options import (
    AdapterScaleOption,
    FaceDetailer,
    GuidanceInterval,
    GuidanceScale,
    ImageSize,
    NegativePrompt,
    NumImages,
    Precision,
    Prompt,
    Scheduler,
    Seed,
    SettingsFrom,
    Steps,
    Strength,
    TextGuidance,
)
from tenth.cli.inputs import IDENTITY_SUFFIX, ModelOptions, read_person
from tenth.cli.parameters import Adapter, Device, ImagesFolder, Json, Lora, Method, Model, Source
from tenth.core.console import print_message, print_result, progress_bar

if TYPE_CHECKING:
    from tenth.cli.png_settings import MergedOptions, PngSettings
    from tenth.core.types import Identity
    from tenth.models.latent_diffusion import LatentDiffusion
    from tenth.sampling.hires import HiresConfig
    from tenth.sampling.resolutions import Size


def generate(
    source: Source,
    output: ImagesFolder,
    prompt: Prompt = None,
    negative_prompt: NegativePrompt = None,
    settings_from: SettingsFrom = None,
    num_images: NumImages = 4,
    seed: Seed = None,
    method: Method = None,
    model: Model = "pocket",
    device: Device = None,
    adapter: Adapter = None,
    lora: Lora = None,
    steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    adapter_scale: AdapterScaleOption = None,
    text_guidance: TextGuidance = None,
    scheduler: Scheduler = None,
    guidance_interval: GuidanceInterval = None,
    precision: Precision = None,
    size: ImageSize = None,
    strength: Strength = None,
    face_detailer: FaceDetailer = None,
    json: Json = False,
) -> int:
    """Generate new images of a person.

    Writes 0000.png, 0001.png, ... and run.json into DIR. The first image has the seed given, the next the next one; a seed is
    one image. A DIR that holds something is refused, except by the very command that filled it: stopped or killed, it goes on
    where it was, and gives the same images.
    """
    if is_identity_file(source) and method and not Path(method).is_dir():
        raise typer.BadParameter(
            "an identity file has its method; give the folder that it was trained in", param_hint="--method"
        )
    if prompt is None and settings_from is None:
        raise typer.BadParameter("it is needed, or --settings-from", param_hint="--prompt")
    if size is None and settings_from is None and (strength, face_detailer) != (None, None):
        raise typer.BadParameter("--strength and --face-detailer are for images of a --size", param_hint="--size")
    from tenth.experiments.output_folders import ensure_writable_folder

    # What the user may have to mend comes first, and nothing else is said before it.
    ensure_writable_folder(output)
    content = {"prompt": prompt, "seed": seed, "negative_prompt": negative_prompt}
    scales = {
        "steps": steps,
        "guidance_scale": guidance_scale,
        "ip_adapter_scale": adapter_scale,
        "text_guidance_scale": text_guidance,
    }
    process = {"scheduler": scheduler, "guidance_interval": guidance_interval, "precision": precision}
    settings = ImageSettings.read(content | scales | process, num_images, settings_from)
    settings = settings.with_size(size, strength, face_detailer)

    # The person, then the images.
    subject = _load_subject(source, method, ModelOptions(model, device, adapter, lora), settings)
    paths = _write_images(output, subject, settings)
    print_result({"images": [str(path) for path in paths]} if json else "\n".join(map(str, paths)))
    return 0


@dataclass(frozen=True)
class ImageSettings:
    """What is to be generated. png: the image whose settings were taken, hires: of another size than the model's own."""

    options: MergedOptions
    num_images: int
    png: PngSettings | None
    hires: HiresConfig | None = None

    @classmethod
    def read(cls, options: Mapping[str, Any], num_images: int, settings_from: Path | None) -> ImageSettings:
        """The options of the command, on those of a PNG. Raises InputError for what cannot be."""
        from tenth.cli.png_settings import merge_options, read_png_settings
        from tenth.sampling.bounds import check_setting

        png = read_png_settings(settings_from) if settings_from else None
        merged = merge_options(options, png)
        check_setting("seed", merged.seed + num_images - 1)
        return cls(merged, num_images, png)

    def with_size(self, size: Size | None, strength: float | None, face_detailer: bool | None) -> ImageSettings:
        """With the options of a size, on those of the PNG. Raises InputError for what cannot be."""
        from tenth.cli.png_settings import merge_size

        return replace(self, hires=merge_size(size, strength, face_detailer, self.png))

    def notes(self, subject: Subject) -> list[str]:
        """What to know before the images are generated."""
        from tenth.sampling.prompts import prompt_warnings

        notes = []
        if self.png:
            notes += self.png.notes(subject.model, subject.identity.method, self.options.inherited)
        if self.hires:
            notes += self.hires.notes(subject.model)
        notes += prompt_warnings(subject.model, self.options.prompt)
        return notes + prompt_warnings(subject.model, self.options.sampling.negative_prompt)


@dataclass(frozen=True)
class Subject:
    """A person as an identity, the model that it is for, and what to say about the photos."""

    identity: Identity
    model: LatentDiffusion
    notes: Sequence[str] = ()


def is_identity_file(source: Path) -> bool:
    """Whether what is given is, by its name, an identity file, and no folder of photos."""
    return source.suffix == IDENTITY_SUFFIX and not source.is_dir()


def _load_subject(source: Path, method: str | None, options: ModelOptions, settings: ImageSettings) -> Subject:
    """Read the identity, or make it of the photos. method: by name; of an identity file, the folder it was trained in."""
    from tenth.methods.identity_file import load_identity
    from tenth.methods.registry import DEFAULT_METHOD, trained_method
    from tenth.methods.registry import method as find_method
    from tenth.models.memory.planner import DEFAULT_BATCH_SIZE

    batch_size = min(settings.num_images, DEFAULT_BATCH_SIZE)
    image_size = settings.hires.square_side if settings.hires else 0

    # An identity file, which is for one model.
    if is_identity_file(source):
        identity = load_identity(source)
        model = options.load(full_precision=False, batch_size=batch_size, image_size=image_size)
        if method:
            trained_method(method).ensure_adapter(model)
        model.validate(identity)
        return Subject(identity, model)

    # Photos. What the model cannot do is refused before minutes go into learning.
    recorded = settings.png.method_name if settings.png else None
    chosen = find_method(method or recorded or DEFAULT_METHOD)
    person, notes = read_person(source)
    model = options.load(full_precision=chosen.tunes_model, batch_size=batch_size, image_size=image_size)
    if settings.hires:
        settings.hires.plan(model)
    result = chosen(person, model)
    return Subject(result.identity, model, [*notes, *result.warnings])


def _write_images(output: Path, subject: Subject, settings: ImageSettings) -> list[Path]:
    """Generate the images into the folder, with what to know on stderr. Returns their paths."""
    from tenth.cli.output import generate_into, run_settings
    from tenth.experiments.output_folders import ensure_writable_folder
    from tenth.sampling.generate import Request
    from tenth.sampling.png_metadata import read_sample

    # A folder of another run is refused before anything is said.
    model, options, hires = subject.model, settings.options, settings.hires
    requests = [Request(subject.identity, options.prompt, options.seed + index) for index in range(settings.num_images)]
    ensure_writable_folder(output, run_settings(model, requests, options.sampling, hires))

    # Notes, images, and whose face was made again.
    print_message(*subject.notes, *settings.notes(subject))
    with progress_bar("drawing") as progress:
        paths = generate_into(output, model, requests, options.sampling, lambda now: progress(now.done, now.total), hires)
    if hires:
        print_message(*hires.face_notes(model, [path.name for path in paths if read_sample(path).get("face_pass")]))
    return paths
