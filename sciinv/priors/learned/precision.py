"""In which precision a network is trained: bfloat16 only where the machine multiplies it itself."""

from __future__ import annotations

import torch


def native(device: torch.device) -> bool:
    """Whether bfloat16 is fast; a CPU without its products takes ten times as long as float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def cast(device: torch.device) -> torch.autocast:
    """Return the autocast to train and validate in."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native(device))


def chosen(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
