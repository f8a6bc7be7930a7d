"""The commands of one person but `generate`: `tenth demo`, `photos`, `identity` and `export`.

Heavy imports happen inside the functions, so that `tenth --help` is quick.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tenth.cli import parameters
from tenth.cli.inputs import ModelOptions, read_person
from tenth.cli.large_models import suggest_large_model
from tenth.cli.person.photo_effects import photo_effects
from tenth.cli.person.photo_weights import parse_weights
from tenth.cli.person.source import resolve_source
from tenth.core.console import print_message, print_result, progress_bar
from tenth.core.wording import format_duration, pluralize
from tenth.data.photo_sources import IDENTITY_SUFFIX

if TYPE_CHECKING:
    from tenth.core.types import Identity


def demo(photos: parameters.ExamplePhotos = None, output: parameters.SheetFolder = Path("out/demo")) -> int:
    """Run three methods on example photos, by four prompts, and write a contact sheet.

    Nine photos of a person who does not exist, or yours. Stopped or killed, the same command goes on where it was; no file is
    replaced.
    """
    from tenth.experiments.output_folders import ensure_writable_path

    ensure_writable_path(output)  # before seconds go into imports, and anything else is said
    from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

    # Photos are read while the model's libraries are imported, on the other core.
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_person, photos or EXAMPLE_PHOTOS_DIR)
        from tenth.experiments.demo import demo as run_demo
        from tenth.models.registry import load_model
        from tenth.sampling.config import SamplingConfig

        model = load_model()
        person, notes = reading.result()

    # What is done, where to; then the work.
    print_message(*notes, f"{pluralize(len(person.photos), 'photo')}, model {model.name.partition('@')[0]}, into {output}")
    with progress_bar("drawing") as progress:
        sheet = run_demo(person, model, output, SamplingConfig(), lambda now: progress(now.done, now.total))
    suggest_large_model(model)
    print_message(f"done in {format_duration(time.perf_counter() - start)}; the contact sheet is")
    print_result(sheet)
    return 0


def photos(sources: parameters.Photos, json: parameters.Json = False) -> int:
    """Check which photos can be used, and why the others cannot. Exits with 1 if none can."""
    from tenth.data.photo_folder import inspect_photos, verdicts_to_json, verdicts_to_table

    verdicts = inspect_photos(sources)
    print_result(verdicts_to_json(verdicts) if json else verdicts_to_table(verdicts))
    return 0 if any(verdict.accepted for verdict in verdicts) else 1


def identity(
    sources: parameters.Photos,
    output: parameters.NewIdentity = None,
    name: parameters.PersonName = None,
    consent: parameters.ConsentBasis = None,
    consent_by: parameters.ConsentGiver = None,
    consent_until: parameters.ConsentEnd = None,
    photo_weights: parameters.PhotoWeights = [],  # noqa: B006 - typer's, never changed
    method: parameters.Method = None,
    model: parameters.Model = "pocket",
    device: parameters.Device = None,
    adapter: parameters.Adapter = None,
    lora: parameters.Lora = None,
    with_photos: parameters.WithPhotos = False,
    json: parameters.Json = False,
) -> int:
    """Keep what a method makes of a person, as one file; photos are in it only --with-photos.

    Give -o, or --name to save the person for `tenth generate NAME`, with the photos, and --consent for them. PHOTOS may be
    the name of who is saved, for another method or model. All of it is for your eyes alone (mode 0600), and nothing else is
    replaced by it. The output says how much each photo counts, and by how much the identity would move without it.
    """
    if (output is None) == (name is None):
        raise typer.BadParameter("give one of -o FILE and --name NAME", param_hint="--output")
    if output is not None and output.suffix != IDENTITY_SUFFIX:
        raise typer.BadParameter(f"an identity file ends in {IDENTITY_SUFFIX}, not as {output}", param_hint="--output")
    from tenth.cli.person.saving import NewIdentityFile, PersonToSave, parse_consent

    # Whatever would replace something is refused as soon as it is known, before minutes go into imports and learning.
    given = parse_consent(consent, consent_by, consent_until, name)
    source = resolve_source(sources, photos=True)
    if source.identity:
        raise typer.BadParameter("photos are needed; this is an identity already", param_hint="PHOTOS")
    target = PersonToSave(name, given) if name is not None else NewIdentityFile(output or Path(), with_photos)
    weights = parse_weights(photo_weights, source)
    target.check()
    from tenth.methods.registry import DEFAULT_METHOD
    from tenth.methods.registry import method as find_method
    from tenth.models.memory.planner import LoadOptions

    # The person, the model, and the identity.
    chosen = find_method(method or DEFAULT_METHOD)
    target.check_method(chosen)
    person, notes = read_person(*source.photos, weights=weights, is_saved=source.is_saved)
    target.check_photos(person, source.photos)
    loaded = ModelOptions(model, device, adapter, lora).load(LoadOptions(full_precision=chosen.tunes_model))
    target.check_model(loaded.name)
    result = chosen(person, loaded)
    path = target.save(result.identity)

    # What to know goes to stderr, the file's path to stdout.
    effects = photo_effects(person, result)
    print_message(*source.notes, *notes, *result.warnings, *effects.sentences)
    summary = {"identity": str(path), "method": result.identity.method, "photos": len(result.identity.photos)}
    print_result(summary | effects.table if json else path)
    return 0


def export(
    source: parameters.IdentityFile,
    output: parameters.NewFileOrFolder,
    layout: parameters.Layout = "diffusers",
    method: parameters.TrainedFolder = None,
    model: parameters.Model = "pocket",
    device: parameters.Device = None,
    adapter: parameters.Adapter = None,
    lora: parameters.Lora = None,
) -> int:
    """Write an identity for other programs: diffusers, ComfyUI, A1111.

    What dreambooth trained goes as a LoRA to a FILE that ends in .safetensors, or with the model to a folder, as diffusers
    loads it; the identity's trigger phrase, which a prompt there needs, is printed. What an adapter reads goes, with the
    adapter beside it, to .safetensors for diffusers, or to .ipadpt for ComfyUI. See docs/export.md. Nothing is overwritten.
    """
    from tenth.methods.export import COMFYUI_SUFFIX, export_comfyui, export_lora
    from tenth.methods.identity_file import load_identity, photos_note

    # Two kinds of file need no model.
    if layout == "kohya" and output.suffix != IDENTITY_SUFFIX:
        raise typer.BadParameter(f"it is of a LoRA's file, which ends in {IDENTITY_SUFFIX}", param_hint="--layout")
    loaded = load_identity(source)
    print_message(*photos_note(loaded, source))
    written = [output]
    if output.suffix == COMFYUI_SUFFIX:
        export_comfyui(loaded, output)
    elif output.suffix == IDENTITY_SUFFIX and (loaded.weights or layout == "kohya"):
        export_lora(loaded, output, layout)
    else:
        written = _export_with_model(loaded, output, method, ModelOptions(model, device or "cpu", adapter, lora))

    # What a prompt needs, and what is not in the file, goes to stderr.
    if loaded.trigger_phrase:
        print_message(f'in a prompt the person is "{loaded.trigger_phrase}"')
    if loaded.weights and loaded.embeddings is not None:
        weights = f"its weights to {IDENTITY_SUFFIX} or a folder"
        print_message(f"its image embeddings go to a file that ends in {COMFYUI_SUFFIX}, {weights}")
    print_result("\n".join(map(str, written)))
    return 0


def _export_with_model(identity: Identity, output: Path, method: str | None, options: ModelOptions) -> list[Path]:
    """The embeddings with the adapter that reads them, or the whole model. The paths that were written."""
    from tenth.methods.export import export_embeddings, export_model
    from tenth.methods.registry import trained_method
    from tenth.models.memory.planner import LoadOptions

    model = options.load(LoadOptions(full_precision=True))
    if method:
        trained_method(method).ensure_adapter(model)
    if output.suffix == IDENTITY_SUFFIX:
        return export_embeddings(identity, model, output)
    export_model(identity, model, output)
    return [output]
