"""What a user can ask for: every option once, in groups, as frozen dataclasses that Typer reads.

A command's options are the groups that mean something to it, so its help lists nothing that never
works there. Knows nothing of what is done with an option: ``commands`` turns options into what the
library takes. Loads nothing heavy. (No postponed annotations in this folder: Typer reads them.)

In the order of reading: ``option`` (how one option is declared), ``model_options`` (which model),
``groups`` (what is drawn and written where), ``fit_options`` (of a fit), ``metric`` (options of
metrics), ``reading`` (the groups of commands that run a model), ``preset`` (--config), ``parsing``
(rivals, and how help is laid out).
"""
