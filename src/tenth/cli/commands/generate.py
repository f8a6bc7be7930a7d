"""`tenth generate`: photos or an identity file, and a prompt -> n PNGs and run.json. The PNGs' paths go to stdout.

Heavy imports happen inside the functions, so that `tenth --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tenth.cli import image_options, parameters
from tenth.cli.grid_options import combine_axes
from tenth.cli.inputs import ModelOptions, read_person
from tenth.cli.large_models import suggest_large_model
from tenth.cli.person.people import load_people, recorded_people_notes, resolve_sources
from tenth.cli.person.photo_weights import parse_weights
from tenth.cli.person.source import Source
from tenth.cli.request_options import check_together, open_start, request_fields
from tenth.core.console import print_message, print_result, progress_bar

if TYPE_CHECKING:
    from tenth.experiments.generation.plan import ImagePlan
    from tenth.experiments.generation.png_settings import PngSettings
    from tenth.experiments.generation.subject import Subject


def generate(
    sources: parameters.Source = None,
    output: parameters.ImagesFolder = None,
    people: parameters.People = [],  # noqa: B006 - typer's, never changed
    prompt: image_options.Prompt = None,
    prompts: image_options.PromptsFile = None,
    negative_prompt: image_options.NegativePrompt = None,
    grid: image_options.GridAxes = None,
    style: image_options.StyleName = None,
    styles: image_options.StylesFile = None,
    wildcards: image_options.WildcardsFolder = None,
    settings_from: image_options.SettingsFrom = None,
    num_images: image_options.NumImages = None,
    candidates: image_options.Candidates = None,
    keep_all: image_options.KeepAll = False,
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

    Writes 0000.png, 0001.png, ..., run.json, and sheet.png, which shows all beside the photos, into DIR. The first image of a
    prompt has the seed given, the next the next one; a seed is one image. With --candidates the best come first. Of several
    prompts the first one's images come first. A DIR that holds something is refused, except by the very command that filled
    it: stopped or killed, it goes on where it was, and gives the same images.
    """
    options = locals()  # all of them by their names
    cells = combine_axes(grid, options)
    check_together(options, [axis.name for axis in cells.axes] if cells else [])
    from tenth.experiments.generation.request import inherit
    from tenth.experiments.output_folders import DEFAULT_FOLDER, ensure_writable_folder, ensure_writable_path
    from tenth.sampling.prompts.rows import PromptRow, read_prompt_rows

    # What the user may have to mend comes first, before seconds go into imports, and nothing else is said before it.
    ensure_writable_folder(output) if output else ensure_writable_path(DEFAULT_FOLDER)
    source = _resolve_source(sources or (), people, method, model)
    weights = parse_weights(photo_weights, source)
    rows = read_prompt_rows(prompts) if prompts else [PromptRow(text) for text in prompt or ()]
    png = _read_png_settings(settings_from) if settings_from else None
    if cells:
        rows = cells.rows(rows[0] if rows else PromptRow(png.prompt) if png else None)
    request, inherited = inherit(request_fields(options, rows, cells), png)

    # The images to generate.
    from tenth.experiments.generation.plan import open_completion, plan_images

    start, start_notes = open_start(request, png.start if png else {})
    completion = open_completion(rows, request.style, styles, wildcards)
    plan = plan_images(request, rows, completion, start, cells)

    # The person, then the images.
    from tenth.methods.people.folder import PeopleFolder
    from tenth.methods.people.forget import forgotten_meanwhile

    loading = ModelOptions(model, device, adapter, lora, backend)
    with forgotten_meanwhile(PeopleFolder(), source.saved_names):
        subject = _load_subject(source, weights, plan, png, loading)
        notes = [*subject.notes, *(_png_notes(png, subject, inherited) if png else []), *start_notes]
        paths = _write_images(output, source.name, plan, replace(subject, notes=tuple(notes)))
    suggest_large_model(subject.model)
    print_result({"images": [str(path) for path in paths]} if json else "\n".join(map(str, paths)))
    return 0


def _read_png_settings(path: Path) -> PngSettings:
    from tenth.experiments.generation.png_settings import read_png_settings

    return read_png_settings(path)


def _resolve_source(sources: Sequence[Path], people: Sequence[tuple[str, str]], method: str | None, model: str) -> Source:
    """As `resolve_sources`. Raises typer.BadParameter for a method by name beside an identity file."""
    source = resolve_sources(sources, people, method, model)
    if (source.identity or any(each.source.identity for each in source.people)) and method and not Path(method).is_dir():
        message = "an identity file has its method; give the folder that it was trained in"
        raise typer.BadParameter(message, param_hint="--method")
    return source


def _load_subject(
    source: Source, weights: Mapping[str, float], plan: ImagePlan, png: PngSettings | None, loading: ModelOptions
) -> Subject:
    """Whom the images show: the identity that was given, or those that are made of the photos.

    png: whose method is taken where none is given, if it needs no training.
    """
    from tenth.experiments.generation.subject import subject_of
    from tenth.methods.identity_file import load_identity, photos_note
    from tenth.methods.registry import DEFAULT_METHOD

    method, recorded = plan.request.method, png.method_name if png else None
    if source.people:
        return load_people(source.people, plan, method or None, recorded, loading.load)
    if source.identity:
        identity = load_identity(source.identity)
        contents = () if source.is_saved else photos_note(identity, source.identity)
        return replace(subject_of(identity, plan, method, loading.load), notes=(*source.notes, *contents))
    plan.methods(method or recorded or DEFAULT_METHOD)  # an unknown one is refused before the photos are looked at
    person, notes = read_person(*source.photos, weights=weights, is_saved=source.is_saved)
    subject = subject_of(person, plan, method or recorded or "", loading.load)
    return replace(subject, notes=(*source.notes, *notes, *subject.notes))


def _png_notes(png: PngSettings, subject: Subject, inherited: Mapping[str, Any]) -> list[str]:
    """What was taken from an image, and where the new ones will be others."""
    methods = ", ".join(identity.method for identity in subject.identities.values())
    people = next(iter(subject.people.values()), ())
    photos = [photo for identity in subject.identities.values() for photo in identity.photos]
    return [*png.notes(subject.model, methods, inherited, photos), *recorded_people_notes(png.people, people)]


def _write_images(output: Path | None, name: str, plan: ImagePlan, subject: Subject) -> list[Path]:
    """Generate the images into the folder, with what to know on stderr. Returns their paths.

    name: of the person, for a folder that is not given.
    """
    from tenth.experiments.generation.candidates import kept_indices, kept_message
    from tenth.experiments.generation.notes import face_notes, image_notes
    from tenth.experiments.generation.run import ImageRun, generate_into
    from tenth.experiments.output_folders import ensure_writable_folder, next_folder
    from tenth.sampling.passes.start_image import start_notes

    # Where they go: a folder of another run is refused before anything is said.
    images = ImageRun.of(plan, subject)
    folder = output or next_folder(name, images.settings)
    ensure_writable_folder(folder, images.settings)

    # Notes, images, and whose face was made again.
    print_message(*subject.notes, *(start_notes(subject.model, plan.start) if plan.start else []), *image_notes(images))
    with progress_bar("drawing") as progress:
        paths = generate_into(folder, images, lambda now: progress(now.done, now.total))
    if images.keep:
        print_message(kept_message(folder))
    print_message(*face_notes(images, paths, kept_indices(folder) if images.keep else range(len(paths))))
    return paths
