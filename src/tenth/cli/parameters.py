"""The arguments and options of the commands, each once: names, type, line of help, and the group it stands in.

A value goes to the command as it was typed, or through a function here that refuses it (parser=): the types of typer look at
paths themselves, and refuse text that is no Unicode, before the code that can say what is wrong with it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tenth.cli.completion import method_names, model_names, saved_names
from tenth.core.wording import did_you_mean


def argument(metavar: str, text: str, parser: Callable[[str], Any] = Path) -> Any:
    """An argument. text: its line of help."""
    return typer.Argument(metavar=metavar, parser=parser, help=text)


def option(
    metavar: str, text: str, *names: str, group: str | None = None, parser: Callable[[str], Any] = Path, **more: Any
) -> Any:
    """An option with a value. names: by default that of the parameter. group: which it stands in, in the help."""
    return typer.Option(*names, metavar=metavar, parser=parser, rich_help_panel=group, help=text, **more)


def choice(*values: Any, text: str, group: str | None = None) -> Any:
    """An option whose value is one of these."""
    known = {str(value): value for value in values}

    def parse(value: Any) -> Any:
        given = str(value)  # a default comes as it is
        if given not in known:
            raise typer.BadParameter(f"{given!r} is not one of {', '.join(known)}. {did_you_mean(given, list(known))}".rstrip())
        return known[given]

    return option(f"<{'|'.join(known)}>", text, group=group, parser=parse, autocompletion=lambda: list(known))


def whole_number(text: str) -> int:
    """The parser of a whole number, whose bounds stand elsewhere."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number") from None


def count(text: str) -> int:
    """The parser of a whole number of at least 1."""
    if (number := whole_number(str(text))) < 1:
        raise typer.BadParameter(f"{text!r} is not a whole number of at least 1")
    return number


def _fraction(text: str) -> float:
    """A number of things that can be shared."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise typer.BadParameter(f"{text!r} is not a number of at least 0")
    return number


def _photo_weight(text: str) -> tuple[str, float]:
    """'FILE=0.3' -> the file's name and the number."""
    name, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not name or not 0 <= weight <= MAX_PHOTO_WEIGHT:
        raise typer.BadParameter(f"{text!r} is not a photo, =, and a number from 0 to {MAX_PHOTO_WEIGHT}")
    return name, weight


def _rising_counts(text: str) -> tuple[int, ...]:
    """'1,3,5,9' -> numbers of at least 1, each above the last."""
    numbers = tuple(count(part.strip()) for part in text.split(","))
    if list(numbers) != sorted(set(numbers)):
        raise typer.BadParameter(f"{text!r} is not numbers with commas between them, each above the last")
    return numbers


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day such as 2030-12-31") from None


MAX_PHOTO_WEIGHT = 100  # core/types.py, which imports torch

# Arguments
PHOTOS_HELP = "photos of one person: a folder, files, or both"
Photos = Annotated[list[Path], argument("PHOTOS...", PHOTOS_HELP)]
Source = Annotated[list[Path] | None, argument("SOURCE...", f"{PHOTOS_HELP}; or an identity file, or a saved person's name")]
IdentityFile = Annotated[Path, argument("IDENTITY", "made by `tenth identity`")]
Recipe = Annotated[Path, argument("RECIPE", "a TOML file such as those in recipes/")]
Run = Annotated[Path, argument("RUN", "a folder of `tenth experiment`, or its run.json")]
Pictures = Annotated[list[Path], argument("FILE...", "PNGs of tenth's, or what became of them as JPEG or WebP")]
Generated = Annotated[str, argument("GENERATED", "the images to evaluate: a folder, or the PLACE of `tenth batch`", str)]
LfwSource = Annotated[Path, argument("SOURCE", "lfw-deepfunneled.tgz, or a folder in its layout")]
PeopleFolder = Annotated[Path, argument("SOURCE", "a folder that holds a folder for each person")]
PeopleFile = Annotated[Path, argument("PEOPLE", "people.jsonl, which the other commands write")]
PhotosFolder = Annotated[Path, argument("PHOTOS", "the folder that its photos are in")]
PublishedModel = Annotated[str, argument("NAME", "of `tenth models`, or owner/name on the hub", str)]


def _placed_person(text: str) -> tuple[str, str]:
    """'SOURCE@REGION' -> both."""
    source, _, region = text.rpartition("@")
    if not source or not region:
        raise typer.BadParameter(f"{text!r} is not a person, @, and where in the image, such as anna@left")
    return source, region


PERSON_HELP = (
    "instead of SOURCE, once for each person of an image of several; REGION is left, right, top, bottom, fractions such as"
    " 0,0,0.5,1 (left, top, right, bottom), or a mask's file, white where the person is; not for pocket"
)
People = Annotated[list[Any], option("SOURCE@REGION", PERSON_HELP, "--person", parser=_placed_person)]

# What comes out, and how
OUTPUT = ("--output", "-o")
REPORT_HELP = "[default: report.html beside the record]; a name in .png or .svg: the plot alone"
IMAGES_HELP = "where the images go [default: out/NAME-N, NAME that of SOURCE, N the first that is free]"
PHOTO_WEIGHT_HELP = "how much a photo counts beside the others, 1 by default, 0 not at all; may be repeated"
PhotoWeights = Annotated[list[Any], option("FILE=W", PHOTO_WEIGHT_HELP, "--photo-weight", parser=_photo_weight)]
PersonName = Annotated[str | None, option("NAME", "save it by this name, for `tenth generate NAME`", "--name", parser=str)]
CONSENT_HELP = (
    "by what right the person is saved, with --name: self, the photos are of you; permission, --consent-by gave it; licensed,"
    " by the licence that --consent-by names"
)
ConsentBasis = Annotated[Any, choice("self", "permission", "licensed", text=CONSENT_HELP)]
ConsentGiver = Annotated[str | None, option("WHO", "who gave the consent, or which licence", parser=str)]
CONSENT_END_HELP = "the last day on which it holds, such as 2030-12-31 [default: until the person is forgotten]"
ConsentEnd = Annotated[Any, option("DATE", CONSENT_END_HELP, parser=_date)]
SavedName = Annotated[str, typer.Argument(metavar="PERSON", parser=str, help="a saved name", autocompletion=saved_names)]
FORGET_HELP = "remove images and identity files of the person's photos below it, too; may be repeated"
ForgetIn = Annotated[list[Any], option("DIR", FORGET_HELP, "--in")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
SheetFolder = Annotated[Path, option("DIR", "where images and contact sheet go", *OUTPUT)]
NewIdentity = Annotated[Path | None, option("FILE", "such as me.safetensors", *OUTPUT)]
WITH_PHOTOS_HELP = "let FILE contain photos, for a method whose identity does: whoever has it can see them"
WithPhotos = Annotated[bool, typer.Option("--with-photos", help=WITH_PHOTOS_HELP)]
ImagesFolder = Annotated[Path | None, option("DIR", IMAGES_HELP, *OUTPUT)]
NewFileOrFolder = Annotated[Path, option("PATH", "a new FILE or folder", *OUTPUT)]
TrainingFolder = Annotated[Path, option("DIR", "an empty or new folder", *OUTPUT)]
RunFolder = Annotated[Path | None, option("DIR", "[default: runs/ and the recipe's name]", *OUTPUT)]
ReportFile = Annotated[Path | None, option("FILE", REPORT_HELP, *OUTPUT)]
ManifestFolder = Annotated[Path, option("DIR", "where people.jsonl goes", *OUTPUT)]
EncodedFolder = Annotated[Path, option("DIR", "a new folder, or one to go on with", *OUTPUT)]

# The model and the method
MODEL = "Model"
of_model = partial(option, group=MODEL)
METHOD_HELP = "one of `tenth methods`, a trained folder, a recipe.toml, or two with a plus [default: the one marked there]"
MODEL_HELP = "one of `tenth models`, owner/name of one downloaded from the hub, or a model's folder"
BACKEND_HELP = "what samples on a CPU [default: openvino for pocket where tenth[fast] is installed, else torch]"
DEVICE_HELP = "where it runs [default: cuda for a large model where torch finds a GPU, else cpu]"
ADAPTER_HELP = "an IP-Adapter's .safetensors of this model (plain, Plus, Full), instead of the model's own"
LORA_HELP = "a LoRA's .safetensors for this model, such as one that makes few steps do (with --fast lcm)"
TRAINED_HELP = "the trained folder whose adapter the identity is for"
Method = Annotated[str | None, of_model("M", METHOD_HELP, parser=str, autocompletion=method_names)]
TrainedFolder = Annotated[str | None, of_model("DIR", TRAINED_HELP, "--method", parser=str)]
Model = Annotated[str, of_model("NAME", MODEL_HELP, parser=str, autocompletion=model_names)]
Device = Annotated[str | None, choice("cpu", "cuda", text=DEVICE_HELP, group=MODEL)]
Backend = Annotated[str | None, choice("torch", "openvino", text=BACKEND_HELP, group=MODEL)]
Adapter = Annotated[Path | None, of_model("FILE", ADAPTER_HELP)]
Lora = Annotated[Path | None, of_model("FILE", LORA_HELP)]

# Data, training and measuring
INCEPTION_HELP = (
    "for FID, KID, MIND and Inception Score: the standard file, an address to download it from once, or random:SEED to try"
)
DINOV2_HELP = "for FD-DINOv2: the folder of facebook/dinov2-large"
FEATURE_BACKEND_HELP = "openvino, of tenth[fast]: half the time for Inception and dlib, FID within 1 % [default: torch, exact]"
FACE_QUALITY_HELP = "for face quality: the TOML file of a network such as eDifFIQA"
ExamplePhotos = Annotated[Path | None, option("DIR", "photos of one person, instead of the examples")]
Layout = Annotated[Literal["diffusers", "kohya"], choice("diffusers", "kohya", text="of a LoRA; kohya: for ComfyUI and A1111")]
ResumeTraining = Annotated[bool, typer.Option("--resume", help="go on with the training that was begun in DIR")]
ResumeRun = Annotated[bool, typer.Option("--resume", help="only go on: an error where DIR holds no run")]
InceptionFile = Annotated[str | None, option("FILE", INCEPTION_HELP, "--inception", parser=str)]
Dinov2Folder = Annotated[str | None, option("DIR", DINOV2_HELP, "--dinov2", parser=str)]
FaceQualityFile = Annotated[str | None, option("FILE", FACE_QUALITY_HELP, "--face-quality", parser=str)]
FeatureBackend = Annotated[str | None, choice("torch", "openvino", text=FEATURE_BACKEND_HELP, group=None)]
RecognizerFile = Annotated[
    Path | None, option("FILE", "a face recognizer's TOML file [default: dlib's recognizer]", "--recognizer")
]
HeldOut = Annotated[Path, option("DIR", "real photos that no method was given")]
References = Annotated[Path | None, option("DIR", "the photos that the method was given: for the copy index")]
PEOPLE_LIST_HELP = "a people.jsonl whose captions say who is a man and who a woman: for the gender gap"
PeopleList = Annotated[Path | None, option("FILE", PEOPLE_LIST_HELP, "--people")]
PLOT_HELP = "what a plot alone shows: similarity by number of photos, or the prompt against the person"
ReportPlot = Annotated[Literal["curve", "frontier"], choice("curve", "frontier", text=PLOT_HELP)]
Summary = Annotated[bool, typer.Option("--summary", help="print one table as Markdown, for a README, and write nothing")]
AttributesTable = Annotated[Path, option("FILE", "a new CSV", *OUTPUT)]
AnySplit = Annotated[
    Literal["all", "train", "validation", "test"],
    choice("all", "train", "validation", "test", text="whose photos are read; all: but the reserved people's"),
]
AttributesFile = Annotated[Path | None, option("FILE", "what each photo shows: captions are made of it")]
VERIFY_HELP = "read each finished file as a whole, and do again what has changed"
VerifyShards = Annotated[bool, typer.Option("--verify", help=VERIFY_HELP)]
WORKERS_HELP = "processes on this machine that share the work, or with --ray workers in all [default: this process alone]"
RAY_HELP = "the nodes of a Ray cluster share the work: auto, the cluster that this machine is a node of; HOST:PORT; local"
LOCAL_WORKERS_HELP = "processes that share identities and images, a thread each [default: this process alone, all threads]"
LocalWorkers = Annotated[int, option("N", LOCAL_WORKERS_HELP, "--workers", parser=whole_number)]
Workers = Annotated[int, option("N", WORKERS_HELP, "--workers", parser=whole_number)]
RayAddress = Annotated[str, option("ADDRESS", RAY_HELP, "--ray", parser=str)]
PlanFile = Annotated[Path, argument("PLAN", "rows in JSON lines or Parquet, or a TOML of people, prompts and seeds")]
BATCH_HELP = "a folder, or a URL such as s3://bucket/faces; one that holds this batch is gone on with"
BatchPlace = Annotated[str, option("PLACE", BATCH_HELP, *OUTPUT, parser=str)]
ImageFormat = Annotated[Literal["png", "webp"], choice("png", "webp", text="of the images; both lose nothing", group=None)]
FEATURES_HELP = "keep the recognizer's features of each image, and with --inception that network's, for an evaluation"
KeepFeatures = Annotated[bool, typer.Option("--features", help=FEATURES_HELP)]
SHARD_HELP = "images of a shard, which is what a lost worker loses"
RowsPerShard = Annotated[int, option("N", SHARD_HELP, "--rows-per-shard", parser=count)]
WorkerThreads = Annotated[int, option("N", "CPU threads of each worker", "--threads", parser=count)]
WorkerGpus = Annotated[
    float, option("N", "accelerators of each worker, with --ray; also a fraction", "--gpus", parser=_fraction)
]
TasksFolder = Annotated[Path, option("DIR", "a new folder, or one to go on with", *OUTPUT)]
EvaluatedSplit = Annotated[
    Any, choice("validation", "test", "all", text="whose people: validation, to choose with; test, to report, once; or all")
]
PhotoCounts = Annotated[Any, option("K,K,...", "numbers of photos that a system is given", parser=_rising_counts)]
PromptSets = Annotated[
    Any, choice("portrait", "portrait,attributes", text="neutral portraits alone, or prompts that ask for attributes too")
]
ImagesPerPrompt = Annotated[int, option("N", "portraits of each person by each number of photos", parser=count)]
MaxPeople = Annotated[Any, option("N", "only the first so many people", parser=count)]
CONTROL_HELP = "draws the control without a person, one of `tenth models` [default: no such row]"
ControlModel = Annotated[str | None, option("NAME", CONTROL_HELP, "--control-model", parser=str, autocompletion=model_names)]
Submission = Annotated[Path, argument("FOLDER", "the images that a system made, at the paths that tasks.jsonl names")]
ExportedTasks = Annotated[Path, option("DIR", "the folder of `tenth benchmark export`", "--tasks")]
SystemName = Annotated[str, option("NAME", "what the row is called", "--name", parser=str)]
SystemModel = Annotated[str, option("TEXT", "the model behind it, in words, for the row", "--model", parser=str)]
Recognizers = Annotated[
    list[Path],
    option("FILE", "a face recognizer's TOML file, or dlib; may be repeated [default: dlib's recognizer]", "--recognizer"),
]
RecipeRecognizers = Annotated[
    list[Path],
    option("FILE", "a recognizer's TOML file, or dlib, instead of the recipe's; may be repeated", "--recognizer"),
]
RecipePeople = Annotated[Path | None, option("FILE", "people.jsonl, instead of the recipe's", "--people")]
RecipePhotos = Annotated[Path | None, option("DIR", "the folder of its photos, instead of the recipe's", "--photos")]
ClipFolder = Annotated[Path | None, option("DIR", "a CLIP model's folder, which scores images by their prompts", "--clip")]
Partial = Annotated[bool, typer.Option("--partial", help="score the people of whom every image is there, and say so")]
ResultsFolder = Annotated[Path | None, option("DIR", "where rows and tables go [default: results in --tasks]", *OUTPUT)]
Fold = Annotated[Literal[0, 1, 2], choice(0, 1, 2, text="of three folds, whose people are for testing")]
