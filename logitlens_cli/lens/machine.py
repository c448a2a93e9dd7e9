"""The memory that is free."""

import psutil
import torch


def free_memory(device: torch.device) -> int:
    """Bytes that are free where a model lies."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
