"""The lens for other programs: a model in memory, a text, a reading. No file is touched."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from logitlens_cli.batch.session import read_spec_of
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.read import read_text
from logitlens_cli.options.groups import All, Bos, Color, Direction, Norm
from logitlens_cli.reading.record import Reading


def read(
    model: Any,
    tokenizer: Any,
    text: str,
    *,
    name: str = "reading",
    norm: str = "full",
    every: int = 1,
    layers: str | None = None,
    input_row: bool = True,
    subblocks: bool = False,
    decoder_blocks: int = 0,
    window: str | None = None,
    bos: str = "auto",
    chat: bool = False,
    k: int = 5,
    color: str = "own-logit",
    target: str | Sequence[str] = "final",
    direction: str = "forward",
    one_hot: bool = False,
) -> Reading:
    """Read ``text`` with a causal LM of transformers and its tokenizer: one forward pass, and the
    grids of ``logitlens all``; the options are those of that command.

    The model may be hooked or changed by its owner: what it does is what is read. It is left as it
    was, also after an exception. Raises errors of ``logitlens_cli.errors``: UsageError, ProofError,
    WorkError.
    """
    request = All(
        text=text,
        norm=Norm(norm),
        every=every,
        layers=layers,
        input_row=input_row,
        subblocks=subblocks,
        decoder_blocks=decoder_blocks,
        window=window,
        bos=Bos(bos),
        chat=chat,
        k=k,
        color=Color(color),
        target=[target] if isinstance(target, str) else list(target),
        direction=Direction(direction),
        one_hot=one_hot,
    )
    with evaluating(model):
        lens_model = in_memory(model, tokenizer, subblocks)
        return read_text(lens_model, read_spec_of(request, lens_model), text, name)


def in_memory(model: Any, tokenizer: Any, subblocks: bool) -> LensModel:
    """A model of transformers with the name and the context that its configuration states."""
    return lens_model_of(
        model,
        tokenizer,
        name=getattr(model.config, "_name_or_path", "") or type(model).__name__,
        context=getattr(model.config.get_text_config(), "max_position_embeddings", None),
        subblocks=subblocks,
    )


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout; every module's own flag comes back at the end."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag
