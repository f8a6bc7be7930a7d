"""`tenth generate`: photos or an identity file, and a prompt -> n PNGs and run.json. The PNGs' paths go to stdout.

Heavy imports happen inside the functions, so that `tenth --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tenth.cli import image_options, parameters
from tenth.cli.inputs import ModelOptions, read_person
from tenth.cli.large_models import suggest_large_model
from tenth.cli.person.photo_weights import parse_weights
from tenth.cli.person.source import Source, resolve_source
from tenth.cli.start_options import StartOptions
from tenth.core.console import print_message, print_result, progress_bar

if TYPE_CHECKING:
    from tenth.cli.png_settings import MergedOptions
    from tenth.core.types import Identity
    from tenth.models.latent_diffusion import LatentDiffusion


def generate(
    sources: parameters.Source,
    output: parameters.ImagesFolder,
    prompt: image_options.Prompt = None,
    negative_prompt: image_options.NegativePrompt = None,
    settings_from: image_options.SettingsFrom = None,
    num_images: image_options.NumImages = 4,
    seed: image_options.Seed = None,
    photo_weights: parameters.PhotoWeights = [],  # noqa: B006 - typer's, never changed
    method: parameters.Method = None,
    model: parameters.Model = "pocket",
    device: parameters.Device = None,
    backend: parameters.Backend = None,
    adapter: parameters.Adapter = None,
    lora: parameters.Lora = None,
    steps: image_options.Steps = None,
    guidance_scale: image_options.GuidanceScale = None,
    adapter_scale: image_options.AdapterScaleOption = None,
    text_guidance: image_options.TextGuidance = None,
    scheduler: image_options.Scheduler = None,
    guidance_interval: image_options.GuidanceInterval = None,
    fast: image_options.Fast = None,
    precision: image_options.Precision = None,
    image: image_options.StartImageFile = None,
    mask: image_options.MaskFile = None,
    strength: image_options.Strength = None,
    size: image_options.ImageSize = None,
    face_detailer: image_options.FaceDetailer = None,
    json: parameters.Json = False,
) -> int:
    """Generate new images of a person.

    Writes 0000.png, 0001.png, ... and run.json into DIR. The first image has the seed given, the next the next one; a seed is
    one image. A DIR that holds something is refused, except by the very command that filled it: stopped or killed, it goes on
    where it was, and gives the same images.
    """
    source = resolve_source(sources)
    if source.identity and method and not Path(method).is_dir():
        message = "an identity file has its method; give the folder that it was trained in"
        raise typer.BadParameter(message, param_hint="--method")
    weights = parse_weights(photo_weights, source)
    if prompt is None and settings_from is None:
        raise typer.BadParameter("it is needed, or --settings-from", param_hint="--prompt")
    start = StartOptions(image, mask, strength, size is not None)
    if size is None and settings_from is None and (start.size_strength, face_detailer) != (None, None):
        raise typer.BadParameter("--strength and --face-detailer are for images of a --size, or --image", param_hint="--size")
    if fast and scheduler:
        raise typer.BadParameter("it names a scheduler: leave out --scheduler", param_hint="--fast")
    if fast and model == "pocket":
        raise typer.BadParameter("it is for distilled models and LoRAs of Stable Diffusion", param_hint="--fast")
    from tenth.experiments.output_folders import ensure_writable_folder

    # What the user may have to mend comes first, before seconds go into imports, and nothing else is said before it.
    ensure_writable_folder(output)
    from tenth.cli.png_settings import merge_options, merge_size, read_png_settings
    from tenth.sampling.schedulers import fast_settings

    sampling = {"steps": steps, "guidance_scale": guidance_scale, "ip_adapter_scale": adapter_scale, "scheduler": scheduler}
    sampling |= {"text_guidance_scale": text_guidance, "guidance_interval": guidance_interval, "precision": precision}
    if fast:
        sampling |= {name: value for name, value in fast_settings(fast).items() if sampling.get(name) is None}
    png = read_png_settings(settings_from) if settings_from else None
    options = merge_options({"prompt": prompt, "seed": seed, "negative_prompt": negative_prompt, **sampling}, png, num_images)
    options = replace(options, hires=merge_size(size, start.size_strength, face_detailer, png))
    start_image, start_notes = start.open(png.start if png else {})
    options = replace(options, start=start_image)

    # The person, then the images.
    identity, loaded, notes = _load_subject(
        source, weights, method, ModelOptions(model, device, adapter, lora, backend), options
    )
    paths = _write_images(output, identity, loaded, [*notes, *start_notes], options)
    suggest_large_model(loaded)
    print_result({"images": [str(path) for path in paths]} if json else "\n".join(map(str, paths)))
    return 0


def _load_subject(
    source: Source, weights: Mapping[str, float], method: str | None, model_options: ModelOptions, options: MergedOptions
) -> tuple[Identity, LatentDiffusion, list[str]]:
    """Read the identity, or make it of the photos: with the model that it is for, and what to say about the photos.

    method: by name; of an identity file, the folder it was trained in.
    """
    from tenth.methods.identity_file import load_identity
    from tenth.methods.registry import DEFAULT_METHOD, trained_method
    from tenth.methods.registry import method as find_method

    # An identity file, which is for one model.
    num_images, png, hires = options.num_images, options.png, options.hires
    if source.identity:
        identity = load_identity(source.identity)
        model = model_options.load(full_precision=False, num_images=num_images, hires=hires)
        if method:
            trained_method(method).ensure_adapter(model)
        model.validate(identity)
        return identity, model, list(source.notes)

    # Photos. What the model cannot do is refused before minutes go into learning.
    chosen = find_method(method or (png.method_name if png else None) or DEFAULT_METHOD)
    person, notes = read_person(*source.photos, weights=weights)
    model = model_options.load(full_precision=chosen.tunes_model, num_images=num_images, hires=hires)
    if hires:
        hires.plan(model)
    result = chosen(person, model)
    return result.identity, model, [*source.notes, *notes, *result.warnings]


def _write_images(
    output: Path, identity: Identity, model: LatentDiffusion, notes: list[str], options: MergedOptions
) -> list[Path]:
    """Generate the images into the folder, with what to know on stderr. Returns their paths."""
    from tenth.cli.output import generate_into, run_settings
    from tenth.experiments.output_folders import ensure_writable_folder
    from tenth.sampling.generate import Request
    from tenth.sampling.passes.start_image import start_notes
    from tenth.sampling.png_metadata import read_sample
    from tenth.sampling.prompts import prompt_warnings

    # A folder of another run is refused before anything is said.
    png, hires = options.png, options.hires
    seeds = range(options.seed, options.seed + options.num_images)
    requests = [Request(identity, options.prompt, seed, options.start) for seed in seeds]
    ensure_writable_folder(output, run_settings(model, requests, options.sampling, hires))

    # Notes, images, and whose face was made again.
    notes += png.notes(model, identity.method, options.inherited) if png else []
    notes += hires.notes(model) if hires else []
    notes += start_notes(model, options.start) if options.start else []
    for prompt in (options.prompt, options.sampling.negative_prompt):
        notes += prompt_warnings(model, prompt)
    print_message(*notes)
    with progress_bar("drawing") as progress:
        paths = generate_into(output, model, requests, options.sampling, lambda now: progress(now.done, now.total), hires)
    if hires:
        print_message(*hires.face_notes(model, [path.name for path in paths if read_sample(path).get("face_detailed")]))
    return paths
