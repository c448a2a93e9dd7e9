"""A fit over many chunks, which goes on where it was stopped."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from fitted import TEXTS
from listening import Listening

from logitlens_cli.batch import fitting
from logitlens_cli.batch.chunks import Chunk, chunk_of
from logitlens_cli.batch.fitting import FitJob, FitSession, Fitting, added_here
from logitlens_cli.lens.fitting.fit_sums import FitSums
from logitlens_cli.lens.fitting.linear import add_linear, empty_linear
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model.source import ModelSource

CHUNKS = [chunk_of(ids[n : n + size]) for size in (9, 16, 20) for ids in TEXTS for n in (0, 3)]


def job(folder: Path, kind: str = "linear") -> FitJob:
    source = ModelSource(str(folder), device="cpu", offline=True)
    return FitJob(
        source=source, spec=ReadSpec(metrics={}), batch_tokens=64, kind=kind, skip_first=2
    )


@pytest.fixture(scope="module")
def session(tiny_folder: Path) -> FitSession:
    return FitSession(job(tiny_folder), Listening())


def test_all_chunks_are_added_up(session: FitSession, tmp_path: Path) -> None:
    fit = Fitting(tmp_path / "a.part", "k", Listening())
    sums = fit.add_all(CHUNKS, session.empty, partial(added_here, session))
    expected = empty_linear(session.lens_model)
    for chunk in CHUNKS:
        add_linear(expected, session.lens_model, [chunk.ids], 2)
    assert (sums.tokens, sums.chunks) == (8 * (7 + 14 + 18), 24)
    assert float((sums.rows - expected.rows).abs().max() / expected.rows.abs().max()) < 1e-6


def test_chunks_of_like_length_share_a_pass(session: FitSession) -> None:
    groups = list(session.groups(CHUNKS))
    assert [len(group) for group in groups] == [7, 4, 4, 3, 3, 3]
    assert all(len(g) * max(len(c.ids) for c in g) <= 64 for g in groups)


class Stopped:
    """Adds as a session does; stops in the middle of a pass, or between two."""

    def __init__(self, session: FitSession, after: int, is_midway: bool) -> None:
        self.session, self.after, self.is_midway = session, after, is_midway

    def __call__(self, sums: FitSums, chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
        for n, group in enumerate(self.session.groups(chunks)):
            if n == self.after:
                if self.is_midway:
                    self.session.add(sums, group)  # and is not told any more
                raise KeyboardInterrupt
            self.session.add(sums, group)
            yield group


@pytest.mark.parametrize("is_midway", [False, True])
def test_a_stopped_fit_goes_on(
    session: FitSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_midway: bool
) -> None:
    """To the same bits."""
    whole = Fitting(tmp_path / "whole.part", "k", Listening()).add_all(
        CHUNKS, session.empty, partial(added_here, session)
    )
    monkeypatch.setattr(fitting, "SAVED_EVERY", 0.0)
    path, progress = tmp_path / "a.part", Listening()
    with pytest.raises(KeyboardInterrupt):
        Fitting(path, "k", progress).add_all(CHUNKS, session.empty, Stopped(session, 3, is_midway))
    sums = Fitting(path, "k", progress).add_all(CHUNKS, session.empty, partial(added_here, session))
    assert progress.notes == ["15 of 24 chunks are done already"]
    assert (sums.tokens, sums.chunks) == (whole.tokens, whole.chunks)
    assert torch.equal(sums.rows, whole.rows)


def test_a_state_of_another_fit_counts_for_nothing(session: FitSession, tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    Fitting(path, "k", Listening()).add_all(CHUNKS[:3], session.empty, partial(added_here, session))
    assert len(Fitting(path, "k", Listening()).done) == 3
    assert Fitting(path, "other", Listening()).done == set()
    path.write_bytes(path.read_bytes()[:-1])
    assert Fitting(path, "k", Listening()).done == set()


def test_a_jacobian_is_added_chunk_by_chunk(tiny_folder: Path) -> None:
    session = FitSession(job(tiny_folder, "jacobian"), Listening())
    sums = session.empty()
    assert [len(group) for group in added_here(session, sums, CHUNKS[:3])] == [1, 1, 1]
    assert (sums.rows.shape, sums.chunks) == ((4, 32, 32), 3)
