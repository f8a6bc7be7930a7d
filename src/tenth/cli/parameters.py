"""The arguments and options of the commands, each once: names, type, line of help, and the group it stands in.

A value goes to the command as it was typed, or through a function here that refuses it (parser=): the types of typer look at
paths themselves, and refuse text that is no Unicode, before the code that can say what is wrong with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

MODEL = "Model"  # a group of options in the help

# Arguments

PersonFolder = Annotated[Path, typer.Argument(metavar="DIR", parser=Path, help="photos of one person")]
Source = Annotated[
    Path, typer.Argument(metavar="SOURCE", parser=Path, help="photos of one person (a folder), or an identity file")
]
IdentityFile = Annotated[Path, typer.Argument(metavar="IDENTITY", parser=Path, help="made by `tenth identity`")]
Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", parser=Path, help="a TOML file such as those in recipes/")]
Run = Annotated[Path, typer.Argument(metavar="RUN", parser=Path, help="a folder of `tenth experiment`, or its run.json")]
Generated = Annotated[Path, typer.Argument(metavar="GENERATED", parser=Path, help="the images to evaluate")]
LfwSource = Annotated[
    Path, typer.Argument(metavar="SOURCE", parser=Path, help="lfw-deepfunneled.tgz, or a folder in its layout")
]
PeopleFolder = Annotated[
    Path, typer.Argument(metavar="SOURCE", parser=Path, help="a folder that holds a folder for each person")
]
PublishedModel = Annotated[str, typer.Argument(metavar="NAME", parser=str, help="of `tenth models`, or owner/name on the hub")]

# What comes out, and how

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
OUTPUT = ("--output", "-o")
SheetFolder = Annotated[Path, typer.Option(*OUTPUT, metavar="DIR", parser=Path, help="where images and contact sheet go")]
NewIdentity = Annotated[Path, typer.Option(*OUTPUT, metavar="FILE", parser=Path, help="such as me.safetensors")]
ImagesFolder = Annotated[Path, typer.Option(*OUTPUT, metavar="DIR", parser=Path, help="where the images go")]
NewFileOrFolder = Annotated[Path, typer.Option(*OUTPUT, metavar="PATH", parser=Path, help="a new FILE or folder")]
TrainingFolder = Annotated[Path, typer.Option(*OUTPUT, metavar="DIR", parser=Path, help="an empty or new folder")]
RunFolder = Annotated[
    Path | None, typer.Option(*OUTPUT, metavar="DIR", parser=Path, help="[default: runs/ and the recipe's name]")
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        *OUTPUT,
        metavar="FILE",
        parser=Path,
        help="[default: report.html beside the record]; a name in .png or .svg: the curve by number of photos alone",
    ),
]
ManifestFolder = Annotated[Path, typer.Option(*OUTPUT, metavar="DIR", parser=Path, help="where people.jsonl goes")]

# The model and the method

Method = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        parser=str,
        rich_help_panel=MODEL,
        help="one of `tenth methods`, a trained folder, a recipe.toml, or two with a plus [default: the one marked there]",
    ),
]
TrainedFolder = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="DIR",
        parser=str,
        rich_help_panel=MODEL,
        help="the trained folder whose adapter the identity is for",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        parser=str,
        rich_help_panel=MODEL,
        help="one of `tenth models`, owner/name of one downloaded from the hub, or a model's folder",
    ),
]
Device = Annotated[
    Literal["cpu", "cuda"] | None,
    typer.Option(
        rich_help_panel=MODEL,
        help="where it runs [default: cuda for a large model where torch finds a GPU, else cpu]",
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=Path,
        rich_help_panel=MODEL,
        help="an IP-Adapter's .safetensors of this model (plain, Plus, Full), instead of the model's own",
    ),
]
Lora = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=Path,
        rich_help_panel=MODEL,
        help="a LoRA's .safetensors for this model, such as one that makes few steps do (with --scheduler lcm)",
    ),
]

# Data, training and measuring

ExamplePhotos = Annotated[
    Path | None, typer.Option(metavar="DIR", parser=Path, help="photos of one person, instead of the examples")
]
Layout = Annotated[Literal["diffusers", "kohya"], typer.Option(help="of a LoRA; kohya: for ComfyUI and A1111")]
ResumeTraining = Annotated[bool, typer.Option("--resume", help="go on with the training that was begun in DIR")]
ResumeRun = Annotated[bool, typer.Option("--resume", help="only go on: an error where DIR holds no run")]
InceptionFile = Annotated[
    str | None,
    typer.Option(
        "--inception",
        metavar="FILE",
        parser=str,
        help="for FID, KID and Inception Score: the standard file, an address to download it from once, or random:SEED to try",
    ),
]
RecognizerFile = Annotated[
    Path | None,
    typer.Option(
        "--recognizer", metavar="FILE", parser=Path, help="a face recognizer's TOML file [default: dlib's recognizer]"
    ),
]
HeldOut = Annotated[Path, typer.Option(metavar="DIR", parser=Path, help="real photos that no method was given")]
References = Annotated[
    Path | None, typer.Option(metavar="DIR", parser=Path, help="the photos that the method was given: for the copy index")
]
Summary = Annotated[bool, typer.Option("--summary", help="print one table as Markdown, for a README, and write nothing")]
AttributesFile = Annotated[
    Path | None, typer.Option(metavar="FILE", parser=Path, help="what each photo shows: captions are made of it")
]
Fold = Annotated[Literal[0, 1, 2], typer.Option(help="of three folds, whose people are for testing")]
