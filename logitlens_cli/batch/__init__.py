"""From prompts to readings, one or many: read together, recorded, drawn by other processes, on
other machines.

A prompt is done when all its files are there; then, and not before, a line about it goes to the
ledger, so that a batch that was stopped at any moment goes on with the same command. A summary has
no ledger: ``summing`` keeps it unfinished in a file of its own. Knows names of files; knows no exit
code, and never sees an options object, though its messages name flags.

In the order of reading: ``prompts`` (text, name, line), ``meetings`` (names that get into each
other's way), ``job`` (what is read), ``tokenizing`` (tokens, before a model is open), ``session``
(an open model reads prompts), ``packing`` (which share a pass), ``processors`` (how many there are
for this run), ``ledger`` (which prompts are done), ``failures`` (which failed), ``workers`` (who
draws), ``summing`` (a summary that goes on where it stopped), ``chunks``
(texts cut up, to fit a lens to) and ``fitting`` (over many of them), ``cluster`` (both on Ray).
"""
