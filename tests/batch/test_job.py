"""What a session is asked to do travels to other processes as it is."""

import pickle
from pathlib import Path

import pytest

from logitlens_cli.batch.job import ReadJob
from logitlens_cli.commands.all import All
from logitlens_cli.commands.translate import read_job
from logitlens_cli.figures.style import FigureStyle, Width
from logitlens_cli.lens.spec import Bos, Norm, ReadSpec
from logitlens_cli.model.source import DeviceMap, Dtype, ModelSource

JOBS = {
    "plain": ReadJob(source=ModelSource(), spec=ReadSpec(metrics={})),
    "of options": read_job(All(lines=Path("a"), target=["next", "auto"])),
    "with everything": read_job(
        All(
            lines=Path("a"),
            model="x",
            dtype=Dtype.float16,
            device_map=DeviceMap.auto,
            norm=Norm.none,
            bos=Bos.add,
            width=Width.single,
            batch_tokens=99,
            layers="0,2",
        )
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_travels(name: str) -> None:
    job = JOBS[name]
    again = pickle.loads(pickle.dumps(job))
    assert again == job
    assert type(again.spec.norm) is Norm


def test_what_a_job_asks_for_by_default() -> None:
    job = JOBS["plain"]
    assert (job.batch_tokens, job.drawn) == (None, None)
    drawn = JOBS["with everything"].drawn
    assert drawn == FigureStyle(width=Width.single, color="own-logit")
