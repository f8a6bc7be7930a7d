"""The commands for one person: photos, identity, generate, export, demo. Each returns its exit code.

Heavy imports happen inside the functions, so that `tenth --help` is quick.
"""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.console import progress_bar, say, show
from tenth.core.wording import counted, duration

if TYPE_CHECKING:
    from tenth.core.types import Person


EXTENSION = ".safetensors"  # of an identity file
DRAWING = ("prompt", "seed", "negative", "steps", "guidance", "scale", "scheduler", "guidance_interval", "words", "precision")


def photos(args: Namespace) -> int:
    """The intake report. 1 if no photo is accepted."""
    from tenth.data.photo_folder import examine, verdicts_to_json, verdicts_to_table

    verdicts = examine(args.directory)
    show(verdicts_to_json(verdicts) if args.json else verdicts_to_table(verdicts))
    return 0 if any(verdict.accepted for verdict in verdicts) else 1


def identity(args: Namespace) -> int:
    """Photos -> an identity file, whose path goes to stdout."""
    if args.output.suffix != EXTENSION:
        args.usage_error(f"-o {args.output}: an identity file ends in {EXTENSION}")
    from tenth.experiments.output_folders import claim_identity

    claim_identity(args.output)  # before minutes go into imports and learning
    from tenth.core.claims import remove_temporary_of
    from tenth.methods.identity_file import save_identity
    from tenth.methods.registry import DEFAULT_METHOD, learns, method
    from tenth.models.memory.planner import Use
    from tenth.models.registry import load_model

    learn = method(args.method or DEFAULT_METHOD)
    person, notes = _person(args.directory)
    model = load_model(args.model, adapter=args.adapter, lora=args.lora, use=Use(args.device, whole=learns(learn)), tell=say)
    claim_identity(args.output, model=model.name)
    made = learn(person, model)
    claim_identity(args.output, method=made.method, model=made.model, adapter=made.adapter, photos=made.photos)
    remove_temporary_of(args.output)
    save_identity(made, args.output, new=True)
    weights = learn.weights(person, model)
    shares = (
        {} if weights is None else {photo.file: float(weight) for photo, weight in zip(person.photos, weights, strict=True)}
    )
    say(*notes, *learn.notes(person, model), *(f"{file}: counts {share:.1%}" for file, share in shares.items()))
    said = {"identity": str(args.output), "method": made.method, "photos": len(made.photos), "weights": shares}
    show(said if args.json else args.output)
    return 0


def generate(args: Namespace) -> int:
    """Photos or an identity file, and a prompt -> n PNGs and run.json. The PNGs' paths go to stdout."""
    from_file = args.source.suffix == EXTENSION and not args.source.is_dir()
    if from_file and args.method and not Path(args.method).is_dir():
        args.usage_error("an identity file has its method already; give --method only for the folder that it was trained in")
    if args.prompt is None and args.like is None:
        args.usage_error("--prompt is needed, or --like")
    if args.size is None and args.like is None and (args.strength, args.face_pass) != (None, None):
        args.usage_error("--strength and --face-pass are for pictures of a --size")
    # What the user may have to mend comes first, and nothing else is said before it.
    from tenth.experiments.output_folders import claim_folder

    claim_folder(args.output)
    from tenth.cli.output import draw_into, settings_of
    from tenth.cli.png_settings import asked_of, read_like, sized
    from tenth.methods.identity_file import load_identity
    from tenth.methods.registry import DEFAULT_METHOD, learns, method, trained_method
    from tenth.models.memory.planner import BATCH, Use
    from tenth.models.registry import load_model
    from tenth.sampling.config import check
    from tenth.sampling.generate import Request
    from tenth.sampling.png_metadata import read_sample
    from tenth.sampling.prompts import prompt_notes

    notes: list[str] = []
    like = read_like(args.like) if args.like else None
    asked = asked_of({name: getattr(args, name) for name in DRAWING}, like)
    check("seed", asked.seed + args.n - 1)
    large = sized(args.size, args.strength, args.face_pass, like)
    use = Use(args.device, images=min(args.n, BATCH), pixels=large.side if large else 0)
    if from_file:
        made = load_identity(args.source)
        model = load_model(args.model, adapter=args.adapter, lora=args.lora, use=use, tell=say)
        if args.method:
            trained_method(args.method).adapter(model)
        model.check(made)
    else:
        learn = method(args.method or (like and like.drawn_by) or DEFAULT_METHOD)
        person, notes = _person(args.source)
        model = load_model(args.model, adapter=args.adapter, lora=args.lora, use=replace(use, whole=learns(learn)), tell=say)
        if large:
            large.plan(model)  # what the model cannot do is refused before minutes go into learning
        made = learn(person, model)
        notes += learn.notes(person, model)
    requests = [Request(made, asked.prompt, asked.seed + number) for number in range(args.n)]

    claim_folder(args.output, settings_of(model, requests, asked.sampling, large))
    notes += like.notes(model, made.method, asked.taken) if like else []
    notes += large.notes(model) if large else []
    say(*notes, *prompt_notes(model, asked.prompt), *prompt_notes(model, asked.sampling.negative))
    with progress_bar("drawing") as progress:
        paths = draw_into(args.output, model, requests, asked.sampling, progress, large)
    say(*(large.face_notes(model, [path.name for path in paths if read_sample(path).get("face_pass")]) if large else []))
    show({"images": [str(path) for path in paths]} if args.json else "\n".join(map(str, paths)))
    return 0


def export(args: Namespace) -> int:
    """An identity -> a file of another program's, or a model folder. The paths of what was written go to stdout."""
    from tenth.methods.export import COMFYUI, export_comfyui, export_embeddings, export_lora, export_model
    from tenth.methods.identity_file import load_identity

    made, written = load_identity(args.source), [args.output]
    if args.output.suffix == COMFYUI:
        export_comfyui(made, args.output)
    elif args.output.suffix == EXTENSION and (made.weights or args.layout == "kohya"):
        export_lora(made, args.output, args.layout)
    else:
        from tenth.methods.registry import trained_method
        from tenth.models.memory.planner import Use
        from tenth.models.registry import load_model

        use = Use(args.device or "cpu", whole=True)
        model = load_model(args.model, adapter=args.adapter, lora=args.lora, use=use, tell=say)
        if args.method:
            trained_method(args.method).adapter(model)
        if args.output.suffix == EXTENSION:
            written = export_embeddings(made, model, args.output)
        else:
            export_model(made, model, args.output)
    if made.word:
        say(f'in a prompt the person is "{made.word}"')
    if made.weights and made.embeddings is not None:
        say(f"its image embeddings go to a file that ends in {COMFYUI}, its weights to {EXTENSION} or a folder")
    show("\n".join(map(str, written)))
    return 0


def demo(args: Namespace) -> int:
    """The main job once, on the example photos or on the user's. The sheet's path is the one line on stdout."""
    from tenth.experiments.output_folders import claim_place

    claim_place(args.output)  # before seconds go into imports, and anything else is said
    from tenth.experiments.demo import demo as run_demo
    from tenth.models.pocket.paths import PHOTOS
    from tenth.models.registry import load_model
    from tenth.sampling.config import Sampling

    start = time.perf_counter()
    person, notes = _person(args.photos or PHOTOS)
    model = load_model()
    say(*notes, f"{counted(len(person.photos), 'photo')}, model {model.name.partition('@')[0]}, into {args.output}")
    with progress_bar("drawing") as progress:
        sheet = run_demo(person, model, args.output, Sampling(), progress)
    say(f"done in {duration(time.perf_counter() - start)}; the contact sheet is")
    show(sheet)
    return 0


def _person(directory: Path) -> tuple[Person, list[str]]:
    """The person in a folder, and what to say about photos that are not used or doubtful."""
    from tenth.data.photo_folder import CAPTION, examine, to_person

    verdicts = examine(directory)
    person = to_person(verdicts, directory.resolve().name)
    refused = [verdict for verdict in verdicts if not verdict.accepted and verdict.code != CAPTION]
    notes = [f"{verdict.file}: not used ({verdict.code})" for verdict in refused]
    notes += [f"{verdict.file}: {warning}" for verdict in verdicts for warning in verdict.warnings]
    return person, notes
