"""How far logits may differ by rounding alone."""

import torch
from torch import Tensor

# Largest difference that rounding may make, relative to the largest logit. float32: only the order
# of summation differs, which came to 4e-7 at most. In half precision the model itself rounds the
# normed stream and the logits (to 8 or 11 bits), and the lens does not: 3e-3 and 4e-4 were seen.
TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.5e-2,
}


def logit_difference(decoded: Tensor, output: Tensor) -> tuple[float, float]:
    """Largest difference of decoded logits from the model's output, and what rounding in the
    model's dtype allows."""
    tolerance = TOLERANCE[output.dtype]
    a, b = decoded.float(), output.float()
    # Logits of minus infinity (entries the model forbids) are equal, not an error of NaN.
    error = float(torch.where(a == b, 0.0, a - b).abs().max())
    finite = b[b.isfinite() & (b > torch.finfo(output.dtype).min / 2)]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    return error, tolerance * max(1.0, largest)
