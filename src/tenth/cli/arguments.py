"""Every command with its arguments, and the page of the manual that is made of them. Imports nothing heavy."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tenth.cli import generate, info, train
from tenth.cli import train as training_commands
from tenth.cli.options import (
    IMAGE_COUNT,
    HelpFormatter,
    Parser,
    adapter_option,
    add_command,
    bounded_number,
    inception_option,
    json_option,
    model_option,
    sampling_options,
    setting_type,
    size_options,
)

DESCRIPTION = "Make new pictures of a person from a handful of photos. Nine photos in, the tenth out."
EPILOG = """examples:
  tenth demo
  tenth photos me/
  tenth generate me/ --prompt "a portrait photo of a smiling person" -o out/me

exit codes: 0 done, 1 something about your input (one line says what), 2 wrong usage, 70 a fault of
tenth's, 130 stopped with Ctrl-C. Results go to stdout, progress to stderr.
`tenth COMMAND --help` says more."""


def build_parser() -> ArgumentParser:
    """The parser of `tenth`. Parsed arguments carry `run`, the command, and `usage_error`, which leaves with exit code 2."""
    parser = Parser("tenth", description=DESCRIPTION, epilog=EPILOG, formatter_class=HelpFormatter, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tenth {version('tenth')}")
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (
        _demo,
        _photos,
        _identity,
        _generate,
        _export,
        _train,
        _experiment,
        _report,
        _evaluate,
        _data,
        _methods,
        _metrics,
        _models,
        _doctor,
    ):
        add(subparsers)
    return parser


def help_page() -> str:
    """docs/cli.md: the help of every command. Written anew by `python -m tenth.cli.arguments > docs/cli.md`."""
    lines = [
        "# The command line",
        "",
        "Made of `--help` by `python -m tenth.cli.arguments`; a test checks that it is current.",
        "",
    ]
    for name, parser in _walk_parsers("tenth", build_parser()):
        lines += [f"## {name}", "", "```", parser.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _walk_parsers(name: str, parser: ArgumentParser) -> Iterator[tuple[str, ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child, child_parser in action.choices.items():
                yield from _walk_parsers(f"{name} {child}", child_parser)


def _demo(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "demo",
        "the main job on the pocket model, start to end, with a contact sheet",
        generate.demo,
        "Nine example photos (of a person who does not exist) go through every method that learns nothing\n"
        "per person. Stopped or killed, the same command goes on where it was; no file is replaced.",
    )
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photos of one person, instead of the examples")
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", default=Path("out/demo"), help="default: out/demo")


def _photos(subparsers: Any) -> None:
    text = "which photos of a folder can be used, and why the others cannot"
    parser = add_command(subparsers, "photos", text, generate.photos, "Exits with 1 if none can.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="photos of one person")
    json_option(parser)


def _identity(subparsers: Any) -> None:
    text = "keep what a method learns of a person, as one small file without a photo in it"
    details = "The file is for your eyes alone (mode 0600), and no other one is replaced by it."
    parser = add_command(subparsers, "identity", text, generate.identity, details)
    parser.add_argument("directory", type=Path, metavar="DIR", help="photos of one person")
    parser.add_argument(
        "--method",
        metavar="M",
        help="one of `tenth methods` (default: the one marked there), a trained folder, a recipe.toml, or two with a plus",
    )
    model_option(parser)
    adapter_option(parser)
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", required=True, help="such as me.safetensors")
    json_option(parser)


def _export(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "export",
        "an identity for other programs: diffusers, ComfyUI, A1111",
        generate.export,
        "What dreambooth learnt goes as a LoRA to a FILE that ends in .safetensors, or with the model to a folder,\n"
        "as diffusers loads it; the identity's words, which a prompt there needs, are said. What an adapter reads\n"
        "goes, with the adapter beside it, to .safetensors for diffusers, or to .ipadpt for ComfyUI. See\n"
        "docs/export.md. Nothing is overwritten.",
    )
    parser.add_argument("source", type=Path, metavar="IDENTITY", help="made by `tenth identity`")
    parser.add_argument(
        "--layout", choices=("diffusers", "kohya"), default="diffusers", help="of a LoRA; kohya: for ComfyUI and A1111"
    )
    parser.add_argument("--method", metavar="DIR", help="the trained folder whose adapter the identity is for")
    model_option(parser)
    adapter_option(parser)
    parser.add_argument("-o", dest="output", type=Path, metavar="PATH", required=True, help="a new FILE or folder")


def _generate(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "generate",
        "draw new pictures of a person",
        generate.generate,
        "Writes 0000.png, 0001.png, ... and run.json into DIR. The first picture has the seed given, the next\n"
        "the next one; a seed is one picture. A DIR that holds something is refused, except by the very\n"
        "command that filled it: stopped or killed, it goes on where it was, and gives the same pictures.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="photos of one person (a folder), or an identity file")
    parser.add_argument("--prompt", metavar="TEXT", help='such as "a portrait photo of a person"; needed without --like')
    parser.add_argument("--like", type=Path, metavar="IMAGE", help="take what is not given here from a picture that tenth drew")
    parser.add_argument("--negative", dest="negative_prompt", metavar="TEXT", help="what the pictures should not show")
    parser.add_argument(
        "--method",
        metavar="M",
        help="one of `tenth methods` (default: the one marked there), a trained folder, a recipe.toml, or two with a plus",
    )
    model_option(parser)
    adapter_option(parser)
    parser.add_argument("-n", type=bounded_number(IMAGE_COUNT), default=4, metavar="N", help="how many pictures (default: 4)")
    parser.add_argument("--seed", type=setting_type("seed"), metavar="SEED", help="of the first (default: 0)")
    parser.add_argument("--steps", type=setting_type("steps"), metavar="S", help="steps of denoising (default: 25)")
    parser.add_argument(
        "--guidance",
        dest="guidance_scale",
        type=setting_type("guidance_scale"),
        metavar="W",
        help="how strictly to follow prompt and person, 1 or more (default: 2)",
    )
    sampling_options(parser)
    size_options(parser)
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", required=True, help="where the pictures go")
    json_option(parser)


def _train(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "train",
        "train a model or an adapter on many people, by a recipe",
        training_commands.train,
        "Writes checkpoints into DIR and, last, DIR/final. Ctrl-C saves first.",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file such as those in recipes/")
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", required=True, help="an empty or new folder")
    parser.add_argument("--resume", action="store_true", help="go on with the training that was begun in DIR")


def _experiment(subparsers: Any) -> None:
    text = "compare methods on many people: images, scores, tables, a page"
    details = "Started again, it goes on where it stopped; with the Inception file, what needs it is filled in."
    parser = add_command(subparsers, "experiment", text, train.experiment, details)
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file such as those in recipes/")
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", help="default: runs/ and the recipe's name")
    parser.add_argument("--resume", action="store_true", help="only go on: an error where DIR holds no run")
    inception_option(parser)


def _report(subparsers: Any) -> None:
    text = "an experiment's tables, pictures and how to repeat it, as one HTML file"
    details = "The file needs no network and no other file. Images that lie beside the record are put into it."
    parser = add_command(subparsers, "report", text, train.report, details)
    parser.add_argument("record", type=Path, metavar="RUN", help="a folder of `tenth experiment`, or its run.json")
    text = "default: report.html beside the record; a name in .png or .svg: the curve by number of photos alone"
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help=text)
    parser.add_argument("--summary", action="store_true", help="print one table as Markdown, for a README, and write nothing")


def _evaluate(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "evaluate",
        "measure a folder of images against a folder of real photos",
        train.evaluate,
        "Either both folders hold images, of one person, or both hold a folder for each person. A metric that\n"
        "cannot be measured says why. Features are kept: the same images are not read by a network again.",
    )
    parser.add_argument("generated", type=Path, metavar="GENERATED", help="the images to judge")
    parser.add_argument("--reference", type=Path, metavar="DIR", required=True, help="real photos that no method was given")
    inception_option(parser)
    parser.add_argument("--judge", type=Path, metavar="FILE", help="a face recogniser's TOML file (default: dlib's recogniser)")
    json_option(parser)


def _data(subparsers: Any) -> None:
    data_subparsers = add_command(subparsers, "data", "prepare data to train and measure on", None).add_subparsers(
        title="data sets", metavar="SET", required=True
    )
    parser = add_command(
        data_subparsers, "lfw", "check, split and caption Labeled Faces in the Wild; writes DIR/people.jsonl", train.lfw
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="lfw-deepfunneled.tgz, or a folder in its layout")
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", required=True, help="where people.jsonl goes")
    parser.add_argument("--attributes", type=Path, metavar="FILE", help="what each photo shows: captions are made of it")
    text = "of three folds, whose people are for testing (default: 0)"
    parser.add_argument("--fold", type=int, choices=range(3), default=0, metavar="N", help=text)
    parser = add_command(
        data_subparsers,
        "people",
        "check, split and caption photos of your own people; writes DIR/people.jsonl",
        train.people,
        "SOURCE has a folder for each person, with their photos in it. A text file of the same name beside a\n"
        "photo is its caption: photo.jpg, photo.txt. See docs/data.md.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder that holds a folder for each person")
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", required=True, help="where people.jsonl goes")


def _methods(subparsers: Any) -> None:
    json_option(add_command(subparsers, "methods", "the ways to turn photos into an identity", info.methods))


def _metrics(subparsers: Any) -> None:
    json_option(add_command(subparsers, "metrics", "what is measured on generated images", info.metrics))


def _models(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "models",
        "the diffusion models, which of them are here, and how the others come",
        info.models,
        "NAME is one of the list, owner/name of a repository of either family on the hub, or one of these\n"
        "with +ADAPTER, another published IP-Adapter. No model comes but by --download. A download that\n"
        "was stopped goes on when it is run again; one that is done compares every byte. See docs/models.md.",
    )
    parser.add_argument("--download", metavar="NAME", help="get it, and lock its revision and bytes in models.lock")
    parser.add_argument("--update", action="store_true", help="with --download: lock what the hub has now instead")
    json_option(parser)


def _doctor(subparsers: Any) -> None:
    json_option(add_command(subparsers, "doctor", "what works on this machine, and what to do about the rest", info.doctor))


if __name__ == "__main__":
    print(help_page(), end="")
