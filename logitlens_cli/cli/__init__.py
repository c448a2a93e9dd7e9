"""argv -> a command's options -> its work -> an exit code.

The only place that knows exit codes, and what a user's signal does (``batch.workers`` and
``model.sandbox`` set handlers for purposes of their own). Knows neither models nor figures: a
command does its work itself, and this prints each path that it yields.

In the order of reading: ``app`` (the command line, made from the table of commands),
``environment`` (misspelt variables), ``exit_codes`` (of errors and signals), ``interrupts``
(signals), ``messages`` (paths, and errors as one line).
"""
