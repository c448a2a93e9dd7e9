"""What can be refused before any work, because it will fail whatever the data are."""

from importlib.util import find_spec

from logitlens_cli.commands.translate import figure_style
from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.table import METRICS, TOPK
from logitlens_cli.options.groups import FigureOptions
from logitlens_cli.options.reading import TextReadOptions


def check_extras(options: FigureOptions) -> None:
    """Refuse an unknown colour map or font, or a table that cannot be written; the library that
    knows is loaded only where one is named."""
    if options.parquet and find_spec("pyarrow") is None:
        raise UsageError("--format parquet needs pyarrow", 'pip install "logitlens-cli[parquet]"')
    style = figure_style(options)
    if style.cmap is not None:
        from logitlens_cli.figures.colors import require_cmap

        require_cmap(style.cmap)
    if style.families:
        from logitlens_cli.figures.fonts import require_fonts

        require_fonts(style.families)


def check_limits(options: TextReadOptions) -> None:
    """Refuse limits of colours that no data could make right."""
    if not options.formats or (options.vmin is None and options.vmax is None):
        return
    from logitlens_cli.figures.scale import limits

    style = figure_style(options)
    for figure in options.figures:
        spec = options.metrics.get(str(style.color) if figure == TOPK else figure)
        if spec is not None:
            limits(METRICS[spec.metric].scale(spec), None, style)
