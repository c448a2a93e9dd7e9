"""argv -> a command's options -> its work -> an exit code.

The only place that knows exit codes and signals. Knows neither models nor figures: a command does
its work itself, and this prints each path that it yields.

In the order of reading: ``app`` (the command line, made from the table of commands), ``interrupts``
(signals), ``messages`` (errors as one line and an exit code).
"""
