"""The linear map of a row: what comes closest to the last block's output, by least squares.

Din et al. (2023), "Jump to conclusions", arXiv 2303.09435. With X the rows' stream and a column of
ones, Y the last block's output, (position, ...) each, the map solves (X'X + penalty) M = X'Y. Only
the sums X'X and X'Y are kept, whatever the length of the text.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.fitting.fit_sums import FitSums, empty_sums
from logitlens_cli.lens.fitting.passes import stream_of
from logitlens_cli.lens.lens_model import LensModel


def empty_linear(lens_model: LensModel) -> FitSums:
    """(row, width + 1, 2 width + 1): X'X and beside it X'Y."""
    parts = lens_model.parts
    width = parts.layout.width
    return empty_sums(len(parts.blocks), (width + 1, 2 * width + 1), parts.inner.device)


@torch.inference_mode()
def add_linear(
    sums: FitSums, lens_model: LensModel, texts: Sequence[Sequence[int]], skip_first: int
) -> None:
    """Add a pass over some texts."""
    resid = stream_of(lens_model, texts, skip_first).resid
    positions, width = resid.shape[1:]
    sums.is_whole = False
    # X, ones and Y side by side, so that one product makes all sums of a row.
    both = torch.ones(positions, 2 * width + 1, dtype=torch.float64, device=sums.rows.device)
    both[:, width + 1 :] = resid[-1]
    for n, row in enumerate(sums.rows):
        both[:, :width] = resid[n]
        row.addmm_(both[:, : width + 1].T, both)
    sums.count(positions, len(texts))


def linear_maps(sums: FitSums, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights (row, width, width) and biases (row, width), float64, such that ``h @ W.T + b`` is
    the map of ``h``.

    ``ridge`` times the mean diagonal of X'X is added to the diagonal, but not for the bias. Raises
    UsageError where the texts do not determine the maps.
    """
    width = sums.rows.shape[1] - 1
    weights, biases = [], []
    for row in sums.rows.cpu():
        gram, cross = row[:, : width + 1].clone(), row[:, width + 1 :]
        diagonal = gram.diagonal()[:width]
        diagonal += ridge * diagonal.mean()
        solution, info = torch.linalg.solve_ex(gram, cross)
        if (ridge == 0 and sums.tokens <= width) or info or not solution.isfinite().all():
            raise UsageError(
                f"{sums.tokens} positions do not determine a map of width {width} with --ridge "
                f"{ridge:g}",
                "give more text, or a larger --ridge",
            )
        weights.append(solution[:width].T)
        biases.append(solution[width])
    return torch.stack(weights), torch.stack(biases)
