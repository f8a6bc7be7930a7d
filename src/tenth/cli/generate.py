"""The commands for one person: photos, identity, generate, export, demo. Each returns its exit code.

Heavy imports happen inside the functions, so that `tenth --help` is quick.
"""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.console import print_message, print_result, progress_bar
from tenth.core.wording import format_duration, pluralize

if TYPE_CHECKING:
    from tenth.core.types import Person


IDENTITY_SUFFIX = ".safetensors"  # of an identity file
SAMPLING_OPTIONS = (
    "prompt",
    "seed",
    "negative_prompt",
    "steps",
    "guidance_scale",
    "ip_adapter_scale",
    "scheduler",
    "guidance_interval",
    "text_guidance_scale",
    "precision",
)


def photos(args: Namespace) -> int:
    """The intake report. 1 if no photo is accepted."""
    from tenth.data.photo_folder import inspect_folder, verdicts_to_json, verdicts_to_table

    verdicts = inspect_folder(args.directory)
    print_result(verdicts_to_json(verdicts) if args.json else verdicts_to_table(verdicts))
    return 0 if any(verdict.accepted for verdict in verdicts) else 1


def identity(args: Namespace) -> int:
    """Photos -> an identity file, whose path goes to stdout."""
    if args.output.suffix != IDENTITY_SUFFIX:
        args.usage_error(f"-o {args.output}: an identity file ends in {IDENTITY_SUFFIX}")
    from tenth.experiments.output_folders import ensure_writable_identity

    ensure_writable_identity(args.output)  # before minutes go into imports and learning
    from tenth.core.files.claims import remove_temporary_of
    from tenth.methods.identity_file import save_identity
    from tenth.methods.registry import DEFAULT_METHOD, method
    from tenth.models.memory.planner import LoadOptions
    from tenth.models.registry import load_model

    chosen_method = method(args.method or DEFAULT_METHOD)
    person, notes = _read_person(args.directory)
    model = load_model(
        args.model,
        adapter=args.adapter,
        lora=args.lora,
        options=LoadOptions(args.device, full_precision=chosen_method.tunes_model),
        on_message=print_message,
    )
    ensure_writable_identity(args.output, model=model.name)
    result = chosen_method(person, model)
    created = result.identity
    ensure_writable_identity(
        args.output, method=created.method, model=created.model, adapter=created.adapter, photos=created.photos
    )
    remove_temporary_of(args.output)
    save_identity(created, args.output, new=True)
    photo_weights: dict[str, float] = {}
    if result.photo_weights is not None:
        photo_weights = {photo.file: float(weight) for photo, weight in zip(person.photos, result.photo_weights, strict=True)}
    print_message(
        *notes,
        *result.warnings,
        *(f"{file}: counts {share:.1%}" for file, share in photo_weights.items()),
    )
    summary = {"identity": str(args.output), "method": created.method, "photos": len(created.photos), "weights": photo_weights}
    print_result(summary if args.json else args.output)
    return 0


def generate(args: Namespace) -> int:
    """Photos or an identity file, and a prompt -> n PNGs and run.json. The PNGs' paths go to stdout."""
    from_file = args.source.suffix == IDENTITY_SUFFIX and not args.source.is_dir()
    if from_file and args.method and not Path(args.method).is_dir():
        args.usage_error("an identity file has its method already; give --method only for the folder that it was trained in")
    if args.prompt is None and args.like is None:
        args.usage_error("--prompt is needed, or --like")
    if args.size is None and args.like is None and (args.strength, args.face_pass) != (None, None):
        args.usage_error("--strength and --face-pass are for pictures of a --size")
    # What the user may have to mend comes first, and nothing else is said before it.
    from tenth.experiments.output_folders import ensure_writable_folder

    ensure_writable_folder(args.output)
    from tenth.cli.output import generate_into, run_settings
    from tenth.cli.png_settings import merge_options, merge_size, read_png_settings
    from tenth.methods.identity_file import load_identity
    from tenth.methods.registry import DEFAULT_METHOD, method, trained_method
    from tenth.models.memory.planner import DEFAULT_BATCH_SIZE, LoadOptions
    from tenth.models.registry import load_model
    from tenth.sampling.config import check_setting
    from tenth.sampling.generate import Request
    from tenth.sampling.png_metadata import read_sample
    from tenth.sampling.prompts import prompt_warnings

    notes: list[str] = []
    png_settings = read_png_settings(args.like) if args.like else None
    options = merge_options({name: getattr(args, name) for name in SAMPLING_OPTIONS}, png_settings)
    check_setting("seed", options.seed + args.n - 1)
    hires = merge_size(args.size, args.strength, args.face_pass, png_settings)
    load_options = LoadOptions(
        args.device, batch_size=min(args.n, DEFAULT_BATCH_SIZE), image_size=hires.square_side if hires else 0
    )
    if from_file:
        person_identity = load_identity(args.source)
        model = load_model(args.model, adapter=args.adapter, lora=args.lora, options=load_options, on_message=print_message)
        if args.method:
            trained_method(args.method).ensure_adapter(model)
        model.validate(person_identity)
    else:
        chosen_method = method(args.method or (png_settings and png_settings.method_name) or DEFAULT_METHOD)
        person, notes = _read_person(args.source)
        model = load_model(
            args.model,
            adapter=args.adapter,
            lora=args.lora,
            options=replace(load_options, full_precision=chosen_method.tunes_model),
            on_message=print_message,
        )
        if hires:
            hires.plan(model)  # what the model cannot do is refused before minutes go into learning
        result = chosen_method(person, model)
        person_identity, notes = result.identity, [*notes, *result.warnings]
    requests = [Request(person_identity, options.prompt, options.seed + number) for number in range(args.n)]

    ensure_writable_folder(args.output, run_settings(model, requests, options.sampling, hires))
    notes += png_settings.notes(model, person_identity.method, options.inherited) if png_settings else []
    notes += hires.notes(model) if hires else []
    print_message(*notes, *prompt_warnings(model, options.prompt), *prompt_warnings(model, options.sampling.negative_prompt))
    with progress_bar("drawing") as progress:
        paths = generate_into(args.output, model, requests, options.sampling, progress, hires)
    print_message(
        *(hires.face_notes(model, [path.name for path in paths if read_sample(path).get("face_pass")]) if hires else [])
    )
    print_result({"images": [str(path) for path in paths]} if args.json else "\n".join(map(str, paths)))
    return 0


def export(args: Namespace) -> int:
    """An identity -> a file of another program's, or a model folder. The paths of what was written go to stdout."""
    from tenth.methods.export import COMFYUI_SUFFIX, export_comfyui, export_embeddings, export_lora, export_model
    from tenth.methods.identity_file import load_identity

    person_identity, written = load_identity(args.source), [args.output]
    if args.output.suffix == COMFYUI_SUFFIX:
        export_comfyui(person_identity, args.output)
    elif args.output.suffix == IDENTITY_SUFFIX and (person_identity.weights or args.layout == "kohya"):
        export_lora(person_identity, args.output, args.layout)
    else:
        from tenth.methods.registry import trained_method
        from tenth.models.memory.planner import LoadOptions
        from tenth.models.registry import load_model

        load_options = LoadOptions(args.device or "cpu", full_precision=True)
        model = load_model(args.model, adapter=args.adapter, lora=args.lora, options=load_options, on_message=print_message)
        if args.method:
            trained_method(args.method).ensure_adapter(model)
        if args.output.suffix == IDENTITY_SUFFIX:
            written = export_embeddings(person_identity, model, args.output)
        else:
            export_model(person_identity, model, args.output)
    if person_identity.trigger_phrase:
        print_message(f'in a prompt the person is "{person_identity.trigger_phrase}"')
    if person_identity.weights and person_identity.embeddings is not None:
        print_message(
            f"its image embeddings go to a file that ends in {COMFYUI_SUFFIX}, its weights to {IDENTITY_SUFFIX} or a folder"
        )
    print_result("\n".join(map(str, written)))
    return 0


def demo(args: Namespace) -> int:
    """The main job once, on the example photos or on the user's. The sheet's path is the one line on stdout."""
    from tenth.experiments.output_folders import ensure_writable_path

    ensure_writable_path(args.output)  # before seconds go into imports, and anything else is said
    from tenth.experiments.demo import demo as run_demo
    from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
    from tenth.models.registry import load_model
    from tenth.sampling.config import SamplingConfig

    start = time.perf_counter()
    person, notes = _read_person(args.photos or EXAMPLE_PHOTOS_DIR)
    model = load_model()
    print_message(*notes, f"{pluralize(len(person.photos), 'photo')}, model {model.name.partition('@')[0]}, into {args.output}")
    with progress_bar("drawing") as progress:
        sheet = run_demo(person, model, args.output, SamplingConfig(), progress)
    print_message(f"done in {format_duration(time.perf_counter() - start)}; the contact sheet is")
    print_result(sheet)
    return 0


def _read_person(directory: Path) -> tuple[Person, list[str]]:
    """The person in a folder, and what to say about photos that are not used or doubtful."""
    from tenth.data.photo_folder import CAPTION, inspect_folder, to_person

    verdicts = inspect_folder(directory)
    person = to_person(verdicts, directory.resolve().name)
    refused = [verdict for verdict in verdicts if not verdict.accepted and verdict.code != CAPTION]
    notes = [f"{verdict.file}: not used ({verdict.code})" for verdict in refused]
    notes += [f"{verdict.file}: {warning}" for verdict in verdicts for warning in verdict.warnings]
    return person, notes
