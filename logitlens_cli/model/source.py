"""Which model is opened, and how; loads nothing heavy."""

from dataclasses import dataclass
from enum import StrEnum


class Dtype(StrEnum):
    """The dtype of the model's body. Metrics are float32 always; norm and head too, except where a
    replay runs only in the model's own dtype."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class DeviceMap(StrEnum):
    """How accelerate spreads a model over devices."""

    auto = "auto"
    balanced = "balanced"
    sequential = "sequential"


@dataclass(frozen=True)
class ModelSource:
    """A model by its name, and how it is to be opened."""

    model: str = "smollm2"
    """smollm2 (the default model), a name on the hub, a folder, a .gguf file"""
    revision: str | None = None
    """branch, tag or commit on the hub"""
    device: str = "auto"
    dtype: Dtype = Dtype.auto
    device_map: DeviceMap | None = None
    """None: one device"""
    offline: bool = False
    """never touch the network"""
    trust_remote_code: bool = False
    """run code that comes with a model"""
    allow_pickle: bool = False
    """read weights that can run code"""
