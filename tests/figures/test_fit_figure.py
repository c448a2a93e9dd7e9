"""The figure of a fit shows its numbers."""

import numpy as np
from fit_reports import REPORT

from logitlens_cli.figures.fit_figure import draw_fit


def test_both_lenses_over_layers() -> None:
    drawing = draw_fit(REPORT)
    left, right = drawing.figure.axes
    for n, scores in enumerate((REPORT.plain, REPORT.fitted)):
        np.testing.assert_array_equal(left.lines[n].get_ydata(), scores.kl_median[:-1])
        np.testing.assert_array_equal(right.lines[n].get_ydata(), scores.agrees)
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["plain", "linear"]
    assert left.get_yscale() == "log"
    texts = [text.get_text() for text in drawing.figure.texts]
    assert texts == [
        "tiny$: a linear lens on held-out text",
        "fitted to 4000 positions, measured on 252 others",
    ]


def test_the_figure_in_words() -> None:
    assert draw_fit(REPORT).alt == (
        "Lines over layers input to 1, for the plain and the linear lens: median KL to the output, "
        "and the share of positions whose guess is the model's. fitted to 4000 positions, measured "
        "on 252 others."
    )
