"""Texts and a model in memory -> maps fitted to its stream, and how well they do on other texts.

Knows nothing of files' names, figures or options. In the order of reading: ``fit_sums`` (what a fit
adds up), ``passes`` (chunks through the model), ``linear`` and ``jacobian`` (the two kinds: what a
pass adds, and how maps come of the sums), ``held_out`` (plain against fitted).
"""
