"""The commands: typed functions, which typer reads."""
