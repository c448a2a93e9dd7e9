"""Every way to end has an exit code."""

import signal

from logitlens_cli import errors
from logitlens_cli.cli.exit_codes import ENDINGS, EXIT_CODES, INTERRUPTED, USAGE
from logitlens_cli.errors import LogitLensError


def test_every_error_has_an_exit_code() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, LogitLensError)
    }
    assert set(EXIT_CODES) == kinds - {LogitLensError}
    assert {kind.__name__: code for kind, code in EXIT_CODES.items()} == {
        "WorkError": 1,
        "DiskError": 1,
        "UsageError": 2,
        "ProofError": 3,
        "BatchError": 4,
    }
    assert USAGE == 2


def test_signals_end_as_shells_have_it() -> None:
    assert {int(number): code for number, (_, code) in ENDINGS.items()} == {
        **{2: 130, 15: 143},
        **({1: 129} if hasattr(signal, "SIGHUP") else {}),
    }
    assert INTERRUPTED == 130


def test_wrong_usage() -> None:
    assert USAGE == 2
