"""``python -m logitlens_cli``."""

from logitlens_cli.cli import entry

entry()
