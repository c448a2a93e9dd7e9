"""Lenses other than the plain one: an affine map for each row of the stream, before the tail.

The logit lens decodes ``tail(h)``; a linear, tuned or Jacobian lens ``tail(A h + b)`` with A and b
of the row. Knows nothing of metrics or figures, and nothing of how maps are fitted.

In the order of reading: ``find_maps`` (what ``--lens`` names), ``lens_maps`` (maps in memory),
``maps_file`` (the project's own file), ``published`` (files of other programs), ``hub_lens`` (how
one comes from the hub), ``fit_of_maps`` (do they belong to the model?), ``mapped_rows`` (which rows
they can show).
"""
