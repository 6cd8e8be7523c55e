"""Processing of many images, one or several at a time: failures are reported, the other images are processed."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from intake_img.doors.cli.failures import FAULTS, code_of, complain, message_of
from intake_img.doors.cli.named_images import NamedImage
from intake_img.model.progress_bar import meter
from intake_img.model.text import escaped, json_text, printable

__all__ = ["Job", "Outcome", "run_batch"]

_SHOWN = 20  # number of failures in the summary

Progress = Callable[[int], None]
Work = Callable[["Job", Progress], "list[str] | None"]


@dataclass(frozen=True)
class Job:
    """An image and its target."""

    item: NamedImage
    target: str


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: the written files, or the error; neither if it was skipped."""

    job: Job
    files: Sequence[str] = ()
    error: str = ""
    code: int = field(default=0, repr=False)

    @property
    def status(self) -> str:
        """``converted``, ``skipped`` or ``failed``."""
        return "failed" if self.error else "converted" if self.files else "skipped"


class _Stopped(Exception):
    """The run was stopped; raised in the writing threads, so that they remove incomplete files."""


def run_batch(jobs: Sequence[Job], work: Work, workers: int, progress: bool | None, as_json: bool) -> int:
    """Run all jobs, report each when it is done, and print a summary at the end.

    Parameters
    ----------
    jobs : sequence of Job
    work : callable
        ``(job, progress) -> files``, or None for a skipped job; it must call `progress` now and then.
    workers : int
        Number of concurrent jobs, each in a thread of this process.
    progress : bool, optional
        Show a bar; by default in a terminal.
    as_json : bool
        Print a line of JSON for each job.

    Returns
    -------
    int
        The exit code: 0, or the highest one of a failure.
    """
    done: list[Outcome] = []
    with (
        meter(progress, len(jobs), "converting", "image", scaled=False) as step,
        contextlib.closing(_outcomes(jobs, work, workers)) as outcomes,
    ):
        for outcome in outcomes:
            done.append(outcome)
            step(1)
            _report(outcome, as_json)
    _sum_up(done)
    return max((outcome.code for outcome in done), default=0)


def _outcomes(jobs: Sequence[Job], work: Work, workers: int) -> Generator[Outcome]:
    """Yield the outcome of each job when it is done."""
    if workers == 1:  # in the main thread, which receives signals
        for job in jobs:
            yield _attempt(job, work, lambda _: None)
        return
    stop = threading.Event()

    def checked(_: int) -> None:
        if stop.is_set():
            raise _Stopped

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(_attempt, job, work, checked) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _attempt(job: Job, work: Work, progress: Progress) -> Outcome:
    try:
        progress(0)
        return Outcome(job, work(job, progress) or ())
    except FAULTS as exc:
        return Outcome(job, error=message_of(exc), code=code_of(exc))
    except Exception as exc:  # a bug of ours: the other images are still converted
        return Outcome(job, error=f"{type(exc).__name__}: {printable(exc, 5000)}", code=1)


def _report(outcome: Outcome, as_json: bool) -> None:
    if outcome.error:
        name, error = escaped(outcome.job.item.name), str(outcome.error)
        complain(error if name in error else f"{name}: {error}", outcome.code)
    if as_json:
        facts: dict[str, Any] = {"source": outcome.job.item.name, "target": outcome.job.target}
        facts |= {"status": outcome.status, "files": list(outcome.files)}
        print(json_text(facts | ({"error": outcome.error} if outcome.error else {}), indent=None), flush=True)
    elif outcome.files:
        print(escaped(outcome.job.target), flush=True)


def _sum_up(done: Sequence[Outcome]) -> None:
    counts = {s: sum(o.status == s for o in done) for s in ("converted", "skipped", "failed")}
    listed = ", ".join(f"{n} {status}" for status, n in counts.items() if n or status == "converted")
    print(f"intake-img: {listed}", file=sys.stderr)
    failed = [o for o in done if o.error]
    if not failed or len(done) < 2:
        return
    for outcome in failed[:_SHOWN]:
        print(f"  failed: {escaped(outcome.job.item.name)}", file=sys.stderr)
    if len(failed) > _SHOWN:
        print(f"  ... and {len(failed) - _SHOWN} more", file=sys.stderr)
