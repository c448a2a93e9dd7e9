"""The difference of two readings, as numbers."""

import msgspec

from logitlens_cli.reading.record import Layer, LensRecord, ModelRecord, Record, Token

DIFFERENCE_SCHEMA = "logitlens-diff/1"


class Side(Record, frozen=True):
    """One of the two readings."""

    name: str
    text: str
    tokens: list[Token]
    model: ModelRecord
    lens: LensRecord


class Difference(Record, frozen=True):
    """B minus A of one metric, or log10(B / A) of one with a logarithmic scale."""

    schema: str
    metric: str
    quantity: str
    """what is subtracted or divided, in words"""
    unit: str
    a: Side
    b: Side
    layers: list[Layer]
    values: list[list[float | None]]
    """[layer][position]"""
    same: list[list[bool]]
    """[layer][position] is the top guess of A that of B?"""


def difference_to_json(difference: Difference) -> bytes:
    """The numbers, the same bytes for the same difference; ends with a line feed."""
    return msgspec.json.encode(difference) + b"\n"
