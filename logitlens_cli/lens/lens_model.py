"""A model in memory that has been taken apart and proven."""

from dataclasses import dataclass, field, replace
from typing import Any

from logitlens_cli.lens import decoder, proof
from logitlens_cli.lens.maps.lens_maps import LoadedMaps
from logitlens_cli.lens.undisturbed import undisturbed, without_autocast
from logitlens_cli.model.anatomy import find
from logitlens_cli.model.anatomy.parts import ModelParts
from logitlens_cli.reading.record import ModelRecord


@dataclass(frozen=True, kw_only=True)
class LensModel:
    """A model in memory whose parts are found, with its tokenizer and its record."""

    model: Any
    tokenizer: Any
    parts: ModelParts
    route: decoder.Route
    """how its streams are decoded, as ``proof.prove`` found"""
    record: ModelRecord
    context: int | None
    """the longest text that the model can take, in tokens"""
    proven_lengths: dict[int, int] = field(default_factory=dict, repr=False, compare=False)
    """by class of lengths: the length up to which inner rows were proven on a text"""
    shared_lengths: dict[int, bool] = field(default_factory=dict, repr=False, compare=False)
    """by length: whether texts up to it may share a pass, as far as it was tried"""
    maps: LoadedMaps | None = None
    """what inner rows go through before they are decoded; None is the plain lens"""


def lens_model_of(
    model: Any,
    tokenizer: Any,
    *,
    name: str,
    revision: str | None = None,
    verified: str | None = None,
    context: int | None = None,
    subblocks: bool = False,
) -> LensModel:
    """Find the parts of a model in memory and prove how its streams are decoded.

    Raises UsageError where it is no causal LM, ProofError where its parts cannot be found.
    """
    with undisturbed(model), without_autocast():
        parts = find.find_parts(model, subblocks=subblocks)
        if parts.samples_columns and not proof.samples_agree(model, parts):
            parts = replace(parts, samples_columns=False)
        route = proof.prove(model, parts)
    if not route.skips:  # such a tail may make another thing of some columns in longer texts
        parts = replace(parts, samples_columns=False)
    embeddings = getattr(model.get_input_embeddings(), "weight", None)
    return LensModel(
        model=model,
        tokenizer=tokenizer,
        parts=parts,
        route=route,
        record=ModelRecord(
            name=name,
            revision=revision,
            verified=verified,
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            blocks=len(parts.blocks),
            width=parts.layout.width,
            vocabulary=parts.vocabulary,
            tied=embeddings is not None and same_matrix(embeddings, parts.weight),
            class_=type(model).__name__,
        ),
        context=context,
    )


def same_matrix(a: Any, b: Any) -> bool:
    """Are two parameters one matrix? Offloaded ones have no address, so they must be one object."""
    return a is b or (a.data_ptr() == b.data_ptr() and not a.is_meta)
