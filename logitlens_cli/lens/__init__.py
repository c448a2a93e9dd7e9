"""A text and a model in memory -> a reading: the residual stream captured, decoded and measured.

The story is ``read``: tokens, capture, decode, check, grid, record. Knows nothing of files, figures
or options; finds nothing in a model itself (``model.anatomy`` does) and computes no metric
(``metrics`` does): it makes the sums that metrics are made of.

In the order of reading: ``api`` (the library's face), ``read``; ``spec`` (what to read), ``prompt``
(a text with its tokens), ``targets`` (whose rank), ``rows``; ``maps`` (lenses other than the
plain one); ``lens_model`` (a model taken apart), ``capture`` (the stream), ``decoder`` (what a
decoder is), ``product``, ``direct`` and ``replay`` (the two routes), ``norms`` (found and
stripped), ``decoders`` (which one), ``proof`` and ``rounding`` (is it right, on a probe),
``text_proof`` (and on the text), ``output_check`` (the last row, in every run), ``proven`` (all of
them), ``proof_report``, ``machine`` (memory); ``grid`` (all rows and columns),
``tiles`` (of the vocabulary), ``tile`` (one of them), ``tiles_numba`` (the same compiled);
``records``, ``followed`` (labels and scores), ``all_blocks`` (which are not all rows), ``spelled``
(targets that another spelling beats), ``sharing`` (may texts share a pass); ``undisturbed`` (a read
takes its turn). ``fitting/`` fits a lens of maps to the stream of many texts.
"""
