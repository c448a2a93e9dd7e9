"""What ``logitlens NAME`` does: one file for each kind of command, with its options and its work.

A command's options end here: they are turned into what the library takes (``translate``), and its
results into files. Knows names of files; no exit codes, and no arithmetic. What is heavy loads when
a command runs, since help needs every file of a command.

In the order of reading: ``table`` (all commands by name); ``topk``, ``rank``, ``metric`` (a command
for every other metric), ``all``, ``trace``, ``stats``, ``fit``, ``render``, ``diff``, ``overlay``,
``tokens``, ``models``, ``lenses``; then what they share: ``read`` (one text), ``read_lenses`` (by
several lenses), ``read_lines`` (many), ``fit_lines`` and ``fit_result`` (a lens fitted to many),
``translate``, ``outputs`` (which files), ``write`` (how they are written), ``checks`` (before
work), ``notes`` (after it), ``show`` (figures in the terminal), ``console``, ``progress``.
"""
