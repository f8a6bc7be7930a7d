"""The commands of one person but `generate`: `tenth demo`, `photos`, `identity` and `export`.

Heavy imports happen inside the functions, so that `tenth --help` is quick.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tenth.cli import parameters
from tenth.cli.inputs import IDENTITY_SUFFIX, ModelOptions, read_person
from tenth.cli.large_models import suggest_large_model
from tenth.core.console import print_message, print_result, progress_bar
from tenth.core.wording import format_duration, pluralize

if TYPE_CHECKING:
    from tenth.core.types import Identity


def demo(photos: parameters.ExamplePhotos = None, output: parameters.SheetFolder = Path("out/demo")) -> int:
    """Run every tuning-free method on example photos and write a contact sheet.

    Nine photos of a person who does not exist, or yours. Stopped or killed, the same command goes on where it was; no file is
    replaced.
    """
    from tenth.experiments.output_folders import ensure_writable_path

    ensure_writable_path(output)  # before seconds go into imports, and anything else is said
    from tenth.experiments.demo import demo as run_demo
    from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
    from tenth.models.registry import load_model
    from tenth.sampling.config import SamplingConfig

    # What is done, where to; then the work.
    start = time.perf_counter()
    person, notes = read_person(photos or EXAMPLE_PHOTOS_DIR)
    model = load_model()
    print_message(*notes, f"{pluralize(len(person.photos), 'photo')}, model {model.name.partition('@')[0]}, into {output}")
    with progress_bar("drawing") as progress:
        sheet = run_demo(person, model, output, SamplingConfig(), lambda now: progress(now.done, now.total))
    suggest_large_model(model)
    print_message(f"done in {format_duration(time.perf_counter() - start)}; the contact sheet is")
    print_result(sheet)
    return 0


def photos(directory: parameters.PersonFolder, json: parameters.Json = False) -> int:
    """Check which photos of a folder can be used, and why the others cannot. Exits with 1 if none can."""
    from tenth.data.photo_folder import inspect_folder, verdicts_to_json, verdicts_to_table

    verdicts = inspect_folder(directory)
    print_result(verdicts_to_json(verdicts) if json else verdicts_to_table(verdicts))
    return 0 if any(verdict.accepted for verdict in verdicts) else 1


def identity(
    directory: parameters.PersonFolder,
    output: parameters.NewIdentity,
    method: parameters.Method = None,
    model: parameters.Model = "pocket",
    device: parameters.Device = None,
    adapter: parameters.Adapter = None,
    lora: parameters.Lora = None,
    json: parameters.Json = False,
) -> int:
    """Keep what a method makes of a person, as one small file without a photo in it.

    The file is for your eyes alone (mode 0600), and no other one is replaced by it.
    """
    if output.suffix != IDENTITY_SUFFIX:
        raise typer.BadParameter(f"an identity file ends in {IDENTITY_SUFFIX}, not as {output}", param_hint="--output")
    from tenth.experiments.output_folders import ensure_writable_identity

    ensure_writable_identity(output)  # before minutes go into imports and learning
    from tenth.core.files.claims import remove_temporary_of
    from tenth.methods.identity_file import save_identity
    from tenth.methods.registry import DEFAULT_METHOD
    from tenth.methods.registry import method as find_method

    # The person, the model, and the identity; whatever would replace another one's file is refused as soon as it is known.
    chosen = find_method(method or DEFAULT_METHOD)
    person, notes = read_person(directory)
    loaded = ModelOptions(model, device, adapter, lora).load(full_precision=chosen.tunes_model)
    ensure_writable_identity(output, model=loaded.name)
    result = chosen(person, loaded)
    created = result.identity
    ensure_writable_identity(output, method=created.method, model=created.model, adapter=created.adapter, photos=created.photos)
    remove_temporary_of(output)
    save_identity(created, output, new=True)

    # What to know goes to stderr, the file's path to stdout.
    weights, by_file = result.photo_weights, {}
    if weights is not None:
        by_file = dict(zip((photo.file for photo in person.photos), map(float, weights), strict=True))
    print_message(*notes, *result.warnings, *(f"{file}: counts {share:.1%}" for file, share in by_file.items()))
    summary = {"identity": str(output), "method": created.method, "photos": len(created.photos), "weights": by_file}
    print_result(summary if json else output)
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
    from tenth.methods.identity_file import load_identity

    # Two kinds of file need no model.
    loaded = load_identity(source)
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

    model = options.load(full_precision=True)
    if method:
        trained_method(method).ensure_adapter(model)
    if output.suffix == IDENTITY_SUFFIX:
        return export_embeddings(identity, model, output)
    export_model(identity, model, output)
    return [output]
