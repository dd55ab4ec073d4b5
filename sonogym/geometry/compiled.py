"""Where compiled code may stand in for torch, and how it is handed tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def serves(*values: Tensor) -> bool:
    """Whether compiled code serves: for float32 on the CPU, where no gradient is asked for."""
    return all(x.dtype == torch.float32 and x.is_cpu and not x.requires_grad for x in values)


def array(values: Tensor) -> np.ndarray:
    """For compiled code, which is compiled anew for every layout."""
    return values.contiguous().numpy()
