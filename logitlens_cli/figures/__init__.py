"""What is shown of readings, as plain data, as text, and painted.

First what: a panel is one figure as data, with every number, label and note in it. Then how: as a
caption, a table, or painted on a page. The modules up to ``page`` do not load matplotlib;
``fonts``, ``layout`` (which measures with them), ``colors``, ``cell_texts``, ``drawing`` and the
painters do. Knows nothing of files or models, and never sees an options object, though its messages
name flags.

In the order of reading: ``style`` (what a user may choose), ``scale`` (limits of colours),
``words`` (what figures say), ``token_texts`` (how they write tokens), ``panel`` (a grid as data),
``reading_panels`` (the grids of a reading), ``shared_scale`` (of several), ``pair`` and
``pair_panels`` (two compared), ``line_data`` (lines over layers), ``overlay_data`` (several
summaries in one);
``caption``, ``tables`` (shown as text); ``page`` (sizes of paper), ``fonts``, ``fitted_texts``
(what cells say in how little room), ``layout`` (what goes where), ``colors``, ``cell_texts``,
``drawing`` (a figure that can be saved); ``heatmap``, ``line_figure``, ``summary_figure``,
``overlay_figure``, ``fit_figure`` (the painters).
"""
