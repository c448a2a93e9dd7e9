"""Many prompts: read together, recorded, drawn by other processes, on other machines.

A prompt is done when all its files are there; then, and not before, a line about it goes to the
ledger, so that a batch that was stopped at any moment goes on with the same command. Knows names of
files; knows no option of the command line and no exit code.

In the order of reading: ``prompts`` (text, name, line), ``job`` (what is read), ``session`` (an
open model reads prompts), ``packing`` (which share a pass), ``ledger`` (which are done),
``failures`` (which failed), ``workers`` (who draws), ``summing`` (a summary that goes on where it
stopped), ``cluster`` (readings from Ray).
"""
