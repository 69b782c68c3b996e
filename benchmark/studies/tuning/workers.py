"""Trials in processes of their own; the search itself, and its file, stay with the parent.

parent: start() -> worker: attempt() -> "report" <-> whether to stop, ... -> Outcome; a worker that dies loses
its trial, and another takes its place.
"""

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ...specs.registry import add_file
from ...specs.spec import Spec
from .aim import Aim, Outcome, Report

Attempt = Callable[[Spec, Mapping[str, Any], Aim, Report], Outcome]  # one trial


@dataclass
class Worker:
    """A process, and the trial that it is at work on."""

    process: BaseProcess
    pipe: Any  # a duplex Connection
    task: Any = None

    def start(self, task: Any, spec: Spec, values: dict[str, Any], aim: Aim) -> None:
        """Hand it a trial, which the parent knows as `task`. A process that has died is found by receive()."""
        self.task = task
        with contextlib.suppress(OSError):
            self.pipe.send((spec, values, aim))

    def receive(self) -> float | Outcome | None:
        """An intermediate score, which wants answer(), how the trial ended, or None: the process is gone."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def answer(self, stop: bool) -> None:
        """Whether the trial is to end. A process that has died since is found by the next receive()."""
        with contextlib.suppress(OSError):
            self.pipe.send(stop)


class Workers:
    """As many processes as asked for."""

    def __init__(self, count: int, plugins: Sequence[Path], folder: str, attempt: Attempt) -> None:
        self.attempt = attempt
        self.plugins, self.folder = [str(path.resolve()) for path in plugins], folder
        self.all = [self._spawn() for _ in range(count)]

    @property
    def idle(self) -> list[Worker]:
        """Those without a trial."""
        return [worker for worker in self.all if worker.task is None]

    def ready(self) -> list[Worker]:
        """Wait for those that have something to say, or have died."""
        spoken = wait([worker.pipe for worker in self.all])
        return [worker for worker in self.all if worker.pipe in spoken]

    def replace(self, worker: Worker) -> None:
        """Another process for one that has died."""
        worker.process.join()
        self.all[self.all.index(worker)] = self._spawn()

    def stop(self) -> None:
        """End them all, whatever they do."""
        for worker in self.all:
            worker.process.terminate()
        for worker in self.all:
            worker.process.join()

    def _spawn(self) -> Worker:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_work, args=(theirs, self.plugins, self.folder, self.attempt))
        process.start()
        theirs.close()
        return Worker(process, ours)


@contextmanager
def workers(count: int, plugins: Sequence[Path], attempt: Attempt) -> Iterator[Workers]:
    """Processes that end with the block, and what they leave behind with them."""
    with tempfile.TemporaryDirectory(prefix="tune-") as folder:
        pool = Workers(count, plugins, folder, attempt)
        try:
            yield pool
        finally:
            pool.stop()


def _work(pipe: Connection, plugins: list[str], folder: str, attempt: Attempt) -> None:
    tempfile.tempdir = folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for path in plugins:
        add_file(path)

    def report(score: float) -> bool:
        pipe.send(score)
        return pipe.recv()

    while True:
        spec, values, aim = pipe.recv()
        pipe.send(attempt(spec, values, aim, report))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
