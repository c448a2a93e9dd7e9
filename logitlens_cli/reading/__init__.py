"""What is on disk: readings, differences and summaries, and how files appear whole.

Plain records with their shapes and units, checked when they are read back. Knows no model, draws
nothing.

In the order of reading: ``record`` (a reading), ``shapes`` (of what it holds), ``dump`` (its file),
``contradictions`` (which it must not hold), ``rounding`` (of its numbers), ``summary`` (of many
readings), ``sketch`` (distributions that merge exactly), ``difference`` (of two readings),
``fit_report`` (how a fitted lens does), ``parquet`` (all cells as a table), ``marks`` (signs for
characters that one cannot see), ``atomic`` (files that appear whole or not at all), ``sets`` (those
that appear together), ``lock`` (one process at a time in a folder). README.md describes the
formats; schema.json is the dump's.
"""
