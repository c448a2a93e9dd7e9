"""A command's options -> what the library takes. Fields of one name mean one thing."""

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from logitlens_cli.batch.job import ReadJob
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model.lens_files import lens_files
from logitlens_cli.model.source import ModelSource
from logitlens_cli.options.groups import CellOptions, FigureOptions
from logitlens_cli.options.option import recorded_options
from logitlens_cli.options.reading import ReadOptions

Taken = TypeVar("Taken", FigureStyle, ReadSpec, ModelSource)


def values_for(taken: type[Taken], command: Any) -> Taken:
    """``taken`` with the values of the command's options that have the names of its fields."""
    names = [field.name for field in fields(taken) if hasattr(command, field.name)]
    return taken(**{name: getattr(command, name) for name in names})


def figure_style(options: FigureOptions) -> FigureStyle:
    return values_for(FigureStyle, options)


def model_source(options: Any) -> ModelSource:
    return values_for(ModelSource, options)


def read_spec(options: ReadOptions) -> ReadSpec:
    """What to read, by the first of several lenses."""
    spec = values_for(ReadSpec, options)
    return replace(spec, lens=options.lenses[0], options=recorded_options(options))


def read_job(options: ReadOptions) -> ReadJob:
    """What a session reads, here or on a cluster."""
    draws_cells = bool(options.formats) and isinstance(options, CellOptions)
    return ReadJob(
        source=model_source(options),
        spec=read_spec(options),
        batch_tokens=options.batch_tokens,
        drawn=figure_style(options) if draws_cells else None,
    )


def recipe_of(options: ReadOptions) -> Mapping[str, Any]:
    """Everything but the text that the files of a prompt depend on."""
    path = Path(options.model)
    weights = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    weights = [file for file in weights if file.exists()]  # a link may lead nowhere
    lens = lens_files(options.lenses[0], options.model)
    stats = [(file.name, file.stat()) for file in (*weights, *lens)]
    return {
        **recorded_options(options),
        "command": options.command,
        "format": (*options.written, *options.texts),
        "json": options.json,
        "weights": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        "versions": [version(name) for name in ("logitlens-cli", "torch", "transformers")],
    }
