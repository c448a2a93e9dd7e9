"""The exit codes of the command line: of errors, and of a user's signals. 0 is success."""

import signal

from logitlens_cli.errors import BatchError, DiskError, ProofError, UsageError, WorkError

EXIT_CODES = {WorkError: 1, DiskError: 1, UsageError: 2, ProofError: 3, BatchError: 4}
"""by the kind of the error that ended the command"""
USAGE = EXIT_CODES[UsageError]
ENDINGS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
"""by the signal that ended it, the words on standard error and the exit code: 128 plus its number,
as shells have it"""
if hasattr(signal, "SIGHUP"):  # Windows has none
    ENDINGS[signal.SIGHUP] = ("hung up", 129)
INTERRUPTED = ENDINGS[signal.SIGINT][1]
