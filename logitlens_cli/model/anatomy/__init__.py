"""Where a model's blocks, final norm, head and residual stream are, found by following the data.

No table of families: a probe text runs through the model, and tensors are recognised where they
come out of one module and go into another. Changes nothing of the model.

In the order of reading: ``find`` (the story), ``parts`` (what is found), ``passes`` (runs of the
probe, with hooks), ``state`` (what a model remembers, put back), ``tensors`` (in what modules take
and give), ``trials`` (what moves when a tensor is changed, where the data alone leave it open),
``passages`` (through which modules the stream runs), ``stacks`` (which modules are the blocks, in
what order they run), ``slots`` (which of their tensors are the stream), ``tail`` (all after the
last block: norm, head, scale, soft-cap), ``mids`` (the stream between the halves of a block).
"""
