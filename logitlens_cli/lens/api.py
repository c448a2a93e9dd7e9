"""The lens for other programs: a model in memory, a text, a reading. No file is touched."""

import warnings
from collections.abc import Sequence
from typing import Any

from logitlens_cli.lens.lens_model import lens_model_of
from logitlens_cli.lens.maps.find_maps import find_lens, with_lens
from logitlens_cli.lens.read import read_text
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import with_token_ids
from logitlens_cli.metrics.sets import all_metrics
from logitlens_cli.metrics.spec import Direction
from logitlens_cli.metrics.table import COLORS
from logitlens_cli.metrics.target_names import AUTO
from logitlens_cli.reading.record import Reading


def read(  # noqa: PLR0913  # each is an option by name
    model: Any,
    tokenizer: Any,
    text: str,
    *,
    name: str = "reading",
    k: int = 5,
    color: str = COLORS[0],
    target: str | Sequence[str] = "final",
    direction: str = Direction.forward,
    one_hot: bool = False,
    **rows_and_columns: Any,
) -> Reading:
    """Read ``text`` with a causal LM of transformers and its tokenizer: one forward pass, and the
    grids of ``logitlens all``, of whose options all that choose rows, columns and metrics can be
    given: ``norm``, ``lens``, ``every``, ``layers``, ``input_row``, ``subblocks``,
    ``decoder_blocks``, ``window``, ``bos``, ``chat``, ``next_ranks`` (``ReadSpec`` says what each
    is).

    The model may be hooked or changed by its owner: what it does is what is read. It is left as it
    was, also after an exception. Threads that read one model wait for each other. Raises errors of
    ``logitlens_cli.errors``: UsageError, ProofError, WorkError.
    """
    targets = [target] if isinstance(target, str) else list(target)
    spec = ReadSpec(
        metrics=all_metrics(color, targets, direction, one_hot),
        k=k,
        follow=AUTO in targets,
        options={"k": k, "color": color, "target": targets, "direction": direction}
        | {"one_hot": one_hot}
        | rows_and_columns,
        **rows_and_columns,
    )
    lens_model = lens_model_of(
        model,
        tokenizer,
        name=getattr(model.config, "_name_or_path", "") or type(model).__name__,
        context=getattr(model.config.get_text_config(), "max_position_embeddings", None),
        subblocks=spec.subblocks,
    )
    source = find_lens(spec.lens, spec.lens_revision, lens_model.record.name)
    lens_model, spec = with_lens(lens_model, spec, source, warn)
    return read_text(lens_model, with_token_ids(spec, lens_model), text, name)


def warn(words: str) -> None:
    """What the command line notes on standard error."""
    warnings.warn(words, stacklevel=3)
