"""Reading -> all its cells as a Parquet table, for pandas, Polars, DuckDB (extra ``parquet``)."""

from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from logitlens_cli.reading.record import Reading

GUESSES = {
    "ids": pa.int32(),
    "labels": pa.string(),
    "logits": pa.float64(),
    "probs": pa.float64(),
    "log_probs": pa.float64(),
}


def table(reading: Reading) -> pa.Table:
    """One line per cell, layer by layer: name of the prompt, position and tokens, layer, guesses,
    final guess, and a column for each metric."""
    layers, tokens = reading.layers, reading.tokens
    rows, columns = len(layers), len(tokens)

    def along(values: list[Any], kind: Any) -> Any:
        """One value per position, for every layer."""
        return pa.array(values * rows, kind)

    def up(values: list[Any], kind: Any) -> Any:
        """One value per layer, for every position."""
        return pa.array([value for value in values for _ in range(columns)], kind)

    def cells(grid: list[list[Any]], kind: Any) -> Any:
        return pa.array([cell for row in grid for cell in row], kind)

    table = {
        "name": up([reading.name] * rows, pa.string()),
        "position": along([t.position for t in tokens], pa.int32()),
        "token_id": along([t.id for t in tokens], pa.int32()),
        "token": along([t.label for t in tokens], pa.string()),
        "next_id": along([t.next_id for t in tokens], pa.int32()),
        "next": along([t.next_label for t in tokens], pa.string()),
        "layer": up([layer.height for layer in layers], pa.float64()),
        "layer_label": up([layer.label for layer in layers], pa.string()),
        "kind": up([layer.kind for layer in layers], pa.string()),
        "block": up([layer.block for layer in layers], pa.int32()),
        "row": up(list(range(rows)), pa.int32()),
        "final_id": along(reading.final_ids, pa.int32()),
    }
    for name, kind in GUESSES.items():
        grid = getattr(reading.guesses, name) or [[None] * columns] * rows  # of an older dump
        table[f"guess_{name}"] = cells(grid, pa.list_(kind))
    for metric, scores in reading.metrics.items():
        table[metric] = cells(scores.values, pa.float64())
    return pa.table(table)


def save(reading: Reading, file: IO[bytes]) -> None:
    """Write the table; the same bytes for the same reading and version of pyarrow."""
    pyarrow.parquet.write_table(table(reading), file, compression="zstd")
