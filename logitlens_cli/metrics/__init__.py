"""What is computed in a cell: one entry per metric, from which all else about it follows.

An entry (``Metric``) holds a metric's name, help, formula, unit, needs, colour scale, words and the
options that it takes; command, dump, figure, colour bar, statistics and traces are made from it.
Logarithms are natural, z are logits, p probabilities. Knows no model, no figure and no file; loads
numpy only when it computes, since the command line takes names and words from here.

In the order of reading: ``sums`` (what one pass over the vocabulary leaves behind), ``spec`` (a
metric's entry and its parameters), ``target_names`` (whose logit or rank); the entries: ``guesses``
(what may colour top guesses), ``rank``, ``divergence`` (KL, Jensen-Shannon), ``overlap``,
``entropy``, ``cross_entropy``, ``target_probability``; ``table`` (all of them by name), ``sets``
(those behind a figure).
"""
