"""Where a model's blocks, final norm, head and residual stream are, found by following the data.

No table of families: a probe text runs through the model, and tensors are recognised where they
come out of one module and go into another. Changes nothing of the model.

In the order of reading: ``find`` (the story), ``parts`` (what is found), ``passes`` (runs of the
probe, with hooks), ``tensors`` (in what modules take and give), ``tail`` (all after the last block:
norm, head, scale, soft-cap), ``mids`` (the stream between the halves of a block).
"""
