"""`tenth generate`: photos or an identity file, and a prompt -> n PNGs and run.json. The PNGs' paths go to stdout.

Heavy imports happen inside the functions, so that `tenth --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tenth.cli import image_options, parameters
from tenth.cli.images.count_options import CountOptions
from tenth.cli.images.grid_options import combine_axes, settings_of
from tenth.cli.images.start_options import StartOptions
from tenth.cli.inputs import ModelOptions, read_person
from tenth.cli.large_models import suggest_large_model
from tenth.cli.person.people import PlacedByMethod, load_people, recorded_people_notes, resolve_sources
from tenth.cli.person.photo_weights import parse_weights
from tenth.cli.person.source import Source
from tenth.core.console import print_message, print_result, progress_bar

if TYPE_CHECKING:
    from tenth.cli.images.candidates import GivenPhotos, KeepBest
    from tenth.cli.images.planned_images import PlannedImage
    from tenth.cli.png_settings import MergedOptions
    from tenth.core.types import Identity, Photo
    from tenth.models.latent_diffusion import LatentDiffusion
    from tenth.sampling.generate import Request


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
    cells = combine_axes(grid, locals())  # all options by their names
    varied = {axis.name for axis in cells.axes} if cells else set()
    _check_prompt_options(bool(prompt) or "prompt" in varied, prompts, settings_from, style or "style" in varied, styles)
    start = StartOptions(image, mask, strength, size is not None or "size" in varied)
    sizes_differ = prompts is not None or "size" in varied
    start.check_sized(face_detailer, may_have_size=sizes_differ or (size, settings_from) != (None, None))
    _check_fast(fast, scheduler, model)
    count = num_images or (1 if prompts or cells else image_options.DEFAULT_NUM_IMAGES)
    counts = CountOptions(count, candidates, keep_all, bool(people))
    from tenth.experiments.output_folders import DEFAULT_FOLDER, ensure_writable_folder, ensure_writable_path
    from tenth.sampling.prompts.rows import PromptRow, read_prompt_rows

    # What the user may have to mend comes first, before seconds go into imports, and nothing else is said before it.
    ensure_writable_folder(output) if output else ensure_writable_path(DEFAULT_FOLDER)
    source = _resolve_source(sources or (), people, method)
    weights = parse_weights(photo_weights, source)
    rows = read_prompt_rows(prompts) if prompts else [PromptRow(text) for text in prompt or ()]
    counts.check_rows(rows)
    from tenth.cli.images.planned_images import open_completion, plan_images
    from tenth.cli.png_settings import merge_options, merge_size, read_png_settings
    from tenth.sampling.schedulers import fast_settings

    sampling = {"steps": steps, "guidance_scale": guidance_scale, "ip_adapter_scale": adapter_scale, "scheduler": scheduler}
    sampling |= {"text_guidance_scale": text_guidance, "guidance_interval": guidance_interval, "precision": precision}
    sampling |= {name: value for name, value in fast_settings(fast).items() if sampling.get(name) is None} if fast else {}
    png = read_png_settings(settings_from) if settings_from else None
    if cells:
        rows = cells.rows(rows[0] if rows else PromptRow(png.prompt) if png else None)
    given = {"prompt": rows[0].prompt if rows else None, "seed": seed, "negative_prompt": negative_prompt, **sampling}
    options = replace(merge_options(given | (settings_of(rows[0]) if cells else {}), png), grid=cells)
    resize = partial(merge_size, strength=start.size_strength, face_detailer=face_detailer, png_settings=png)
    if size is not None or not sizes_differ:
        options = replace(options, hires=resize(size))
    start_image, start_notes = start.open(png.start if png else {})
    options = replace(options, start=start_image)
    rows = rows or [PromptRow(options.prompt)]
    completion = open_completion(rows, style, styles, wildcards)
    plan = partial(plan_images, rows, options, complete=completion, resize=lambda own: resize(own or size))
    images = plan(counts.drawn)

    # The person, then the images.
    loading = ModelOptions(model, device, adapter, lora, backend)
    loaded = _load_subject(Subject(source, weights, method), loading, options, images)
    photos, keep = counts.choose(loaded.photos, next(iter(loaded.identities.values())), loaded.model.encoder)
    loaded = replace(loaded, notes=(*loaded.notes, *start_notes))
    paths = _write_images(output, source.name, loaded, options, images, (photos, keep))
    suggest_large_model(loaded.model)
    print_result({"images": [str(path) for path in paths]} if json else "\n".join(map(str, paths)))
    return 0


def _check_prompt_options(
    prompt: bool, prompts: Path | None, settings_from: Path | None, style: str | bool, styles: Path | None
) -> None:
    """Raises typer.BadParameter unless prompts come from one place, and a file of styles is used. prompt: if one is given."""
    if not prompt and prompts is None and settings_from is None:
        raise typer.BadParameter("it is needed, or --settings-from or --prompts", param_hint="--prompt")
    if prompt and prompts:
        raise typer.BadParameter("its file has the prompts: leave out --prompt", param_hint="--prompts")
    if styles and not style:
        raise typer.BadParameter("it is for --style, which names one of its styles", param_hint="--styles")


@dataclass(frozen=True)
class Subject:
    """Whom to generate: photos or an identity, the weights of photos by their files, and the method as it was given."""

    source: Source
    weights: Mapping[str, float]
    method: str | None


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What is generated of, and by which model. identities: by the method of a row. photos: none of an identity file.

    people: those of --person, by the method of a row; then identities are those of all of them together.
    """

    identities: Mapping[str | None, Identity]
    model: LatentDiffusion
    photos: tuple[Photo, ...]
    notes: tuple[str, ...]
    people: PlacedByMethod = field(default_factory=dict)

    def request(self, image: PlannedImage) -> Request:
        """An image's request."""
        return replace(image.request, identity=self.identities[image.row.method], people=self.people.get(image.row.method, ()))


def _resolve_source(sources: Sequence[Path], people: Sequence[tuple[str, str]], method: str | None) -> Source:
    """As `resolve_sources`. Raises typer.BadParameter for a method by name beside an identity file."""
    source = resolve_sources(sources, people)
    if (source.identity or any(each.source.identity for each in source.people)) and method and not Path(method).is_dir():
        message = "an identity file has its method; give the folder that it was trained in"
        raise typer.BadParameter(message, param_hint="--method")
    return source


def _check_fast(fast: str | None, scheduler: str | None, model: str) -> None:
    if fast and scheduler:
        raise typer.BadParameter("it names a scheduler: leave out --scheduler", param_hint="--fast")
    if fast and model == "pocket":
        raise typer.BadParameter("it is for distilled models and LoRAs of Stable Diffusion", param_hint="--fast")


def _load_subject(
    subject: Subject, model_options: ModelOptions, options: MergedOptions, images: Sequence[PlannedImage]
) -> _Loaded:
    """Read the identity, or make one of the photos by each method.

    method: by name; of an identity file, the folder it was trained in. The identities are by the method of a row, None where
    it does not say.
    """
    from tenth.cli.images.planned_images import check_sizes, largest_size, methods_of_rows
    from tenth.methods.identity_file import load_identity
    from tenth.methods.registry import DEFAULT_METHOD, trained_method
    from tenth.sampling.generate import check_request

    source, method = subject.source, subject.method
    num_images, png, hires = 1 if options.grid else len(images), options.png, largest_size(images, options.hires)
    if source.people:
        load = partial(model_options.load, full_precision=False, num_images=num_images, hires=hires)
        people = load_people(source.people, images, method, png.method_name if png else None, load)
        loaded = _Loaded(people.identities, people.model, people.photos, people.notes, people.placed)
        check_sizes(images, people.model)
        for image in images:
            check_request(people.model, loaded.request(image), options.hires)
        return loaded

    # An identity file, which is for one model.
    if source.identity:
        methods_of_rows(images, None)
        identity = load_identity(source.identity)
        model = model_options.load(full_precision=False, num_images=num_images, hires=hires)
        if method:
            trained_method(method).ensure_adapter(model)
        model.validate(identity)
        check_sizes(images, model)
        return _Loaded({None: identity}, model, (), source.notes)

    # Photos. What the model cannot do is refused before minutes go into learning.
    chosen = methods_of_rows(images, method or (png.method_name if png else None) or DEFAULT_METHOD)
    person, notes = read_person(*source.photos, weights=subject.weights)
    tunes_model = any(each.tunes_model for each in chosen.values())
    model = model_options.load(full_precision=tunes_model, num_images=num_images, hires=hires)
    if options.hires:
        options.hires.plan(model)
    check_sizes(images, model)
    results = {name: each(person, model) for name, each in chosen.items()}
    warnings = (warning for result in results.values() for warning in result.warnings)
    identities = {name: result.identity for name, result in results.items()}
    return _Loaded(identities, model, person.photos, (*source.notes, *notes, *warnings))


def _write_images(
    output: Path | None,
    name: str,
    loaded: _Loaded,
    options: MergedOptions,
    images: Sequence[PlannedImage],
    choice: tuple[GivenPhotos, KeepBest | None],
) -> list[Path]:
    """Generate the images into the folder, with what to know on stderr. Returns their paths.

    name: of the person, for a folder that is not given. choice: what images are compared with, and how many are kept.
    """
    from tenth.cli.images.candidates import kept_indices, kept_message
    from tenth.cli.images.notes import face_notes, image_notes
    from tenth.cli.images.output import generate_into, run_settings
    from tenth.experiments.output_folders import ensure_writable_folder, next_folder
    from tenth.sampling.passes.start_image import start_notes

    # Where they go: a folder of another run is refused before anything is said.
    identities, model, png, (photos, keep) = loaded.identities, loaded.model, options.png, choice
    requests = [loaded.request(image) for image in images]
    settings = run_settings(model, requests, options.sampling, options.hires, keep, options.grid)
    folder = output or next_folder(name, settings)
    ensure_writable_folder(folder, settings)

    # Notes, images, and whose face was made again.
    methods = ", ".join(identity.method for identity in identities.values())
    notes = [*loaded.notes, *(png.notes(model, methods, options.inherited) if png else [])]
    notes += start_notes(model, options.start) if options.start else []
    notes += recorded_people_notes(png.people if png else (), requests[0].people)
    print_message(*notes, *image_notes(model, requests, options))
    with progress_bar("drawing") as progress:
        draw = partial(generate_into, folder, model, requests, options.sampling, hires=options.hires, given=photos)
        paths = draw(on_progress=lambda now: progress(now.done, now.total), keep=keep, grid=options.grid)
    if keep:
        print_message(kept_message(folder))
        requests = [requests[index] for index in kept_indices(folder)]
    print_message(*face_notes(model, requests, paths, options))
    return paths
