"""What a language model would say after every block: the logit lens as figures.

``logitlens_cli.read(model, tokenizer, text)`` reads a model in memory. It is loaded when it is
first asked for, since it needs torch and the command line's help does not.
"""

TYPE_CHECKING = False  # without loading typing, before which no signal is handled
if TYPE_CHECKING:
    from logitlens_cli.lens.api import read

__all__ = ["read"]


def __getattr__(name: str) -> object:
    if name == "read":
        from logitlens_cli.lens.api import read

        return read
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
