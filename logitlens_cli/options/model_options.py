"""Options that say which model, and how it is opened."""

from dataclasses import dataclass
from typing import Annotated

from logitlens_cli.model.source import DeviceMap, Dtype, ModelSource
from logitlens_cli.options.option import MODEL, option


def complete_model(incomplete: str) -> list[str]:
    """What a shell offers after --model."""
    from logitlens_cli.model.at_hand import models_at_hand

    return models_at_hand(incomplete)


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """The model."""

    model: Annotated[
        str,
        option(
            "--model",
            "-m",
            section=MODEL,
            autocompletion=complete_model,
            help="smollm2, a hub name, a folder, a .gguf file.",
        ),
    ] = "smollm2"


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Where a model comes from."""

    revision: Annotated[
        str | None, option("--revision", section=MODEL, help="Branch, tag or commit on the hub.")
    ] = ModelSource.revision
    offline: Annotated[
        bool, option("--offline", section=MODEL, recorded=False, help="Never touch the network.")
    ] = ModelSource.offline
    trust_remote_code: Annotated[
        bool, option("--trust-remote-code", section=MODEL, help="Run code that comes with a model.")
    ] = ModelSource.trust_remote_code


@dataclass(frozen=True, kw_only=True)
class ModelOptions(SourceOptions):
    """How a model is opened."""

    device: Annotated[
        str,
        option(
            "--device",
            section=MODEL,
            recorded=False,
            help="cpu, cuda, cuda:1 or mps; auto takes the best.",
        ),
    ] = ModelSource.device
    dtype: Annotated[
        Dtype,
        option("--dtype", section=MODEL, help="Of the model's body; metrics are always float32."),
    ] = ModelSource.dtype
    device_map: Annotated[
        DeviceMap | None,
        option(
            "--device-map",
            section=MODEL,
            recorded=False,
            help="Let accelerate spread the model over all devices.",
            show_default="one device",
        ),
    ] = ModelSource.device_map
    allow_pickle: Annotated[
        bool,
        option("--allow-pickle", section=MODEL, help="Read pickled weights, which can run code."),
    ] = ModelSource.allow_pickle
