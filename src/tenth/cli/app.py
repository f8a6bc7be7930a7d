"""`tenth` as typer reads it: which commands there are, how strictly their words are read, how the help looks."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from tenth.cli.commands.batch import batch
from tenth.cli.commands.data import attributes, encode, image_folder, lfw
from tenth.cli.commands.evaluation.benchmark import benchmark, benchmark_export, benchmark_score
from tenth.cli.commands.evaluation.evaluate import evaluate
from tenth.cli.commands.evaluation.experiment import experiment, report
from tenth.cli.commands.evaluation.rate import benchmark_rate
from tenth.cli.commands.generate import generate
from tenth.cli.commands.info import cache, clear, doctor, methods, metrics, verify
from tenth.cli.commands.models import download, models, models_list, update
from tenth.cli.commands.people import forget, people
from tenth.cli.commands.person import demo, export, identity, photos
from tenth.cli.commands.serve import serve
from tenth.cli.commands.train import train
from tenth.cli.examples import epilog

HELP_WIDTH = 100  # in every terminal, so that docs/cli.md can be checked
MAY_BE_EMPTY = {"prompt", "negative_prompt"}
EPILOG = """\b
Examples:
  tenth demo
  tenth photos me/
  tenth generate me/ --prompt "a portrait photo of a smiling person" -o out/me

\b
Exit codes: 0 done, 1 something about your input (one line says what), 2 wrong usage, 70 a fault of
tenth's, 130 stopped with Ctrl-C. Results go to stdout, progress to stderr.
`tenth COMMAND --help` says more. `tenth --install-completion` lets the shell complete commands and names."""


def _check_words(command: TyperCommand | TyperGroup, context: Any, words: Sequence[str]) -> None:
    """Refuse what typer would take and nobody means. Raises typer.BadParameter.

    An option that is given twice and takes one value: of two nobody can tell which was meant. An option where a value belongs.
    Nothing where a path or a name belongs, as an unset variable of a shell leaves it: as a path it would be this folder.
    """
    values, _, order = command.make_parser(context).parse_args(args=list(words))
    given: list[Any] = list(order)
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for index, parameter in enumerate(given):
        value = values[parameter.name]
        texts = value if isinstance(value, list | tuple) else [value]
        if parameter in given[:index] and not getattr(parameter, "multiple", False):
            raise typer.BadParameter("it is given twice; give it once", context, parameter)
        if parameter.param_type_name == "option" and (wrong := [text for text in texts if text in options]):
            raise typer.BadParameter(f"{wrong[0]!r} is an option, where a value belongs", context, parameter)
        if "" in texts and parameter.name not in MAY_BE_EMPTY:
            raise typer.BadParameter("'' is given; leave it out, or say what", context, parameter)


def _write_options(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    """Arguments, then options, then commands, in their groups."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if isinstance(parameter, TyperArgument):
            sections.setdefault("Arguments", []).append((str(parameter.metavar), str(parameter.help)))
        elif record is not None:
            sections.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
    for name, child in getattr(command, "commands", {}).items():
        sections.setdefault(child.rich_help_panel or "Commands", []).append((name, child.get_short_help_str(HELP_WIDTH)))
    for title, records in sections.items():
        with formatter.section(title):
            formatter.write_dl(records)


class Command(TyperCommand):
    """A command whose words are read strictly, and whose options stand in groups in the help."""

    format_options = _write_options

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _check_words(self, ctx, args)
        return super().parse_args(ctx, args)


class Group(TyperGroup):
    """Commands under one word, in groups in the help; the words before the command are read as strictly."""

    format_options = _write_options

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _check_words(self, ctx, args)
        return super().parse_args(ctx, args)


def _print_version(value: bool) -> None:
    if value:
        print(f"tenth {version('tenth')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="show the version and exit")]


def tenth(context: typer.Context, version: Version = False) -> None:
    """Make new images of a person from a handful of photos. Nine photos in, the tenth out."""
    del version
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def data() -> None:
    """Prepare data to train and measure on."""


def build_command() -> Any:
    """`tenth` as click has it: every command in its group of the help, which is the functions' docstrings and annotations."""
    settings: dict[str, Any] = {"rich_markup_mode": None, "cls": Group}
    context = {"terminal_width": HELP_WIDTH, "help_option_names": ["-h", "--help"]}
    app = typer.Typer(context_settings=context, epilog=EPILOG, **settings)
    app.callback(invoke_without_command=True, cls=Group)(tenth)
    data_app, benchmark_app, models_app, cache_app = (typer.Typer(**settings) for _ in range(4))
    data_app.callback()(data)
    benchmark_app.callback()(benchmark)
    models_app.callback(invoke_without_command=True)(models)
    cache_app.callback(invoke_without_command=True)(cache)
    for parent, title, commands in (
        (app, "One person", (demo, photos, identity, generate, people, forget, verify, export)),
        (app, "Many people", (batch, train, experiment, report, evaluate)),
        (app, "This installation", (serve, methods, metrics, doctor)),
        (data_app, None, (lfw, image_folder, attributes, encode)),
        (benchmark_app, None, (benchmark_export, benchmark_score, benchmark_rate)),
        (models_app, None, (models_list, download, update)),
        (cache_app, None, (clear,)),
    ):
        for command in commands:
            name = re.sub("^(benchmark|models)_", "", command.__name__).replace("_", "-")
            parent.command(name, cls=Command, rich_help_panel=title, epilog=epilog(command.__name__))(command)
    app.add_typer(data_app, name="data", rich_help_panel="Many people")
    app.add_typer(benchmark_app, name="benchmark", rich_help_panel="Many people")
    app.add_typer(models_app, name="models", rich_help_panel="This installation")
    app.add_typer(cache_app, name="cache", rich_help_panel="This installation")
    return typer.main.get_command(app)


def help_page() -> str:
    """docs/cli.md: the help of every command. Written anew by `python -m tenth.cli.app > docs/cli.md`."""
    lines = ["# The command line", "", "Made of `--help` by `python -m tenth.cli.app`; a test checks that it is current.", ""]
    for context in _contexts(build_command(), "tenth"):
        lines += [f"## {context.command_path}", "", "```", context.get_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _contexts(command: Any, name: str, parent: Any = None) -> Iterator[Any]:
    """A context for a command and each below it."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield context
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _contexts(child, child_name, context)


if __name__ == "__main__":
    print(help_page(), end="")
