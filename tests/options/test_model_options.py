"""Options that say which model, and how it is opened."""

import dataclasses

from logitlens_cli.model.source import ModelSource
from logitlens_cli.options.model_options import ModelName, ModelOptions, complete_model


def test_defaults_are_those_of_the_library() -> None:
    options = ModelOptions()
    for field in dataclasses.fields(options):
        assert getattr(options, field.name) == getattr(ModelSource, field.name), field.name
    assert ModelName().model == "smollm2"


def test_a_model_at_hand_completes_what_was_typed() -> None:
    assert "smollm2" in complete_model("smol")
    assert complete_model("no such beginning") == []
