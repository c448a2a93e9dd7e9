"""A name -> a causal language model and its tokenizer in memory, checked, and taken apart.

Everything that comes from outside is checked before a library reads it. Knows nothing of lenses,
metrics or figures.

In the order of reading: ``source`` (which model, how opened), ``open`` (the story), ``fetch`` (its
files come to this machine), ``files``, ``gguf_header``, ``config``, ``tokenizer_files``,
``weights`` (each checked, then read), ``smollm2`` (the default model), ``verified`` and ``verify``
(are files as they were written?), ``inventory`` (what is there), ``at_hand`` (for a shell to
offer), ``lens_files`` (fitted lenses); ``tokenizer`` (text -> tokens and labels), ``windows``
(words -> characters), ``spellings`` (of a token), ``sandbox`` (limits of time and memory),
``silence``, ``progress``; ``anatomy`` (where the blocks, the norm and the head are).
"""
