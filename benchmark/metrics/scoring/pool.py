"""Scores computed in processes of their own, which may die: of what the libraries' C code breaks, only that is lost.

    submit -> queue -> one thread per process: (metrics, signals) -> process -> score, score, ... -> Future

A process is a bare interpreter on one thread that talks through its standard streams: it neither inherits the threads
of the main process nor imports its script, ignores Ctrl-C, and ends when the main process does, however that ends.
"""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import UserError
from ..base import METRICS, Scores, declared, installed, load
from ..quality import score_or_nan

SAMPLE_RATE = 16_000  # Hz, of speech


def stoi(reference: ArrayLike, decoded: ArrayLike, rate: int = SAMPLE_RATE, extended: bool = False) -> float:
    """STOI or extended STOI of one decoded signal in float64; NaN where undefined, 0 where it is silent."""
    return score_or_nan(partial(_stoi, rate=rate, extended=extended), reference, decoded, floor=0.0)


def _stoi(reference: NDArray[np.float64], decoded: NDArray[np.float64], rate: int, extended: bool) -> float:
    import torch

    from .. import intelligibility

    first, second = torch.from_numpy(np.stack([reference, decoded]))[:, None]
    return float(intelligibility.stoi(first, second, rate, extended))


MEASURES: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {"stoi": stoi, "estoi": partial(stoi, extended=True)}
MEASURES |= {metric.name: load(metric.function) for metric in METRICS.values() if metric.apart}
USUAL = ("pesq_wb", "visqol")  # made ready while nothing is there to be scored
MOST = 8  # processes by default
WORTH = 8  # items for which a process is worth its start
AHEAD = 4  # tasks in the queue per process: more would only hold memory
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
ALONE |= {"NUMBA_THREADING_LAYER": "workqueue"}
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = {path!r}
from {module} import serve
serve({ready!r})
"""
_kept: list["_Worker"] | None = None  # idle, of pools that have ended; None: outside of kept_workers()
STARTS = 3  # of a process that something kills before it has been given anything
PATIENCE = 5.0  # seconds for a process that has closed its streams to end


def score_pool(items: int) -> "ScorePool":
    """A pool for so many items: in this process where they are too few to be worth the start of another."""
    return ScorePool(max(1, min(available_cores(), MOST, items // WORTH)))


@contextlib.contextmanager
def kept_workers() -> Iterator[None]:
    """Pools in this context leave their processes to the next one, which need not load the libraries again."""
    global _kept
    if _kept is not None:
        yield
        return
    _kept = []
    try:
        yield
    finally:
        workers, _kept = _kept, None
        for worker in workers:
            worker.stop(0.0)


class Task(NamedTuple):
    """Signals of one item, what to compute of them, and where the scores go."""

    metrics: tuple[str, ...]
    reference: NDArray[Any]
    decoded: NDArray[Any]
    scores: "Future[Scores]"


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@final
class ScorePool:
    """Worker processes, from entering to leaving the context; one worker is none: submit() computes at once.

    `workers` defaults to the cores available, at most MOST; `ready` names the metrics that workers load as they start.
    """

    def __init__(self, workers: int | None = None, ready: Sequence[str] = USUAL) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"workers={workers}: there must be at least one")
        self.workers = workers or min(available_cores(), MOST)
        self.ready = _known(ready)
        self.lost: list[str] = []  # the metric of every score that was lost with its process, and is NaN
        self._tasks: queue.Queue[Task | None] = queue.Queue(AHEAD * self.workers)
        self._closing = False
        self._running: dict[int, _Worker] = {}  # by number of the thread
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "ScorePool":
        self._closing = False
        if self.workers > 1:
            self._threads = [threading.Thread(target=self._attend, args=(n,), daemon=True) for n in range(self.workers)]
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Wait for every score; where an error or Ctrl-C leaves the context, drop what is not scored yet."""
        try:
            if kind is None:
                for _ in self._threads:
                    self._tasks.put(None)
                for thread in self._threads:
                    thread.join()
        finally:
            self._drop()

    def submit(self, metrics: Sequence[str], reference: ArrayLike, decoded: ArrayLike) -> "Future[Scores]":
        """The scores "metric -> number" of one decoded signal; the signals are copied.

        NaN where a score is undefined or its process died. Waits while the queue is full. The result raises UserError
        where the processes cannot start or a library is missing.
        """
        task = Task(_known(metrics), np.asarray(reference).copy(), np.asarray(decoded).copy(), Future())
        if self.workers == 1:
            task.scores.set_result({name: MEASURES[name](task.reference, task.decoded) for name in task.metrics})
        elif not self._threads:
            raise RuntimeError("a ScorePool works inside its context: with ScorePool() as pool")
        else:
            self._tasks.put(task)
        return task.scores

    def _attend(self, number: int) -> None:
        """One thread: keeps one process busy, and starts another when that dies."""
        try:
            with contextlib.suppress(OSError):  # then the first task says so
                self._start(number)
            while (task := self._tasks.get()) is not None:
                if task.scores.set_running_or_notify_cancel():
                    try:
                        task.scores.set_result(self._score(number, task))
                    except Exception as error:
                        task.scores.set_exception(error)
            self._leave(number)
        finally:
            self._stop(number)

    def _score(self, number: int, task: Task) -> Scores:
        scores: dict[str, float | str] = {}
        stillborn = 0
        while rest := task.metrics[len(scores) :]:
            if self._closing:
                raise InterruptedError("the scores were no longer wanted")
            worker = self._start(number)
            try:
                for name, score in zip(rest, worker.ask(rest, task.reference, task.decoded), strict=True):
                    scores[name] = score
            except (OSError, EOFError, pickle.UnpicklingError):
                self._stop(number, PATIENCE)
                if self._closing:
                    continue
                if not worker.ready:
                    stillborn += 1
                    if worker.process.returncode >= 0 or stillborn == STARTS:
                        raise UserError("a process for scores does not start; its last words are above") from None
                    continue
                died = task.metrics[len(scores)]
                scores[died] = float("nan")
                self.lost.append(died)
            except BaseException:
                self._stop(number)  # replies that nobody read must not pass for the next task's
                raise
        if wrong := [score for score in scores.values() if isinstance(score, str)]:
            raise UserError("; ".join(wrong))
        return {name: float(score) for name, score in scores.items()}

    def _start(self, number: int) -> "_Worker":
        """The thread's process, a new one where there is none or it died idle."""
        worker = self._running.get(number)
        code = worker.process.poll() if worker else None
        if worker is None or (code is not None and (worker.ready or code < 0)):
            self._stop(number)
            worker = self._running[number] = _idle(self.ready) or _Worker(self.ready)
        return worker

    def _leave(self, number: int) -> None:
        """The thread's process to another pool, where there may be one."""
        if _kept is not None and not self._closing and number in self._running:
            _kept.append(self._running.pop(number))

    def _stop(self, number: int, patience: float = 0.0) -> None:
        if worker := self._running.pop(number, None):
            worker.stop(patience)

    def _drop(self) -> None:
        """End every process and thread; cancel what waits. Nothing to do where all has been scored."""
        self._closing = True
        while any(thread.is_alive() for thread in self._threads):
            with contextlib.suppress(queue.Empty):
                while True:
                    if task := self._tasks.get_nowait():
                        task.scores.cancel()
            with contextlib.suppress(queue.Full):
                for _ in self._threads:
                    self._tasks.put_nowait(None)
            for worker in list(self._running.values()):
                worker.process.kill()
            for thread in self._threads:
                thread.join(0.1)
        self._threads = []


def _idle(ready: tuple[str, ...]) -> "_Worker | None":
    """A process that another pool has left and that is still there."""
    while _kept:
        with contextlib.suppress(IndexError):  # another thread was first
            worker = _kept.pop()
            if worker.loaded == ready and worker.process.poll() is None:
                return worker
            worker.stop(0.0)
    return None


class _Worker:
    """The near end of a process."""

    def __init__(self, ready: tuple[str, ...]) -> None:
        code = START.format(path=[str(place) for place in sys.path], module=__name__, ready=ready)
        command, environment = [sys.executable, "-c", code], os.environ | ALONE
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.loaded, self.ready = ready, False

    def ask(self, metrics: tuple[str, ...], reference: NDArray[Any], decoded: NDArray[Any]) -> Iterator[float | str]:
        """One score after the other, or what is wrong. OSError, EOFError, UnpicklingError: the process is dead."""
        sender, receiver = self.process.stdin, self.process.stdout
        assert sender is not None and receiver is not None
        if not self.ready:
            pickle.load(receiver)
            self.ready = True
        pickle.dump((metrics, reference, decoded), sender, protocol=pickle.HIGHEST_PROTOCOL)
        sender.flush()
        for _ in metrics:
            yield pickle.load(receiver)

    def stop(self, patience: float) -> None:
        """End the process, whatever it does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what it held could not be sent any more
                if stream is not None:
                    stream.close()


def serve(ready: Sequence[str]) -> None:
    """What a worker process does: load what it will need, then answer until its input ends."""
    with os.fdopen(os.dup(0), "rb") as tasks, os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what a library prints must not get among the scores
        noise = 0.1 * np.random.default_rng(0).standard_normal(24_000)
        for name in ready:
            MEASURES[name](noise, noise[::-1].copy())
        try:
            _reply(replies, None)
            while True:
                metrics, reference, decoded = pickle.load(tasks)
                for name in metrics:
                    _reply(replies, _measured(name, reference, decoded))
        except (EOFError, BrokenPipeError):  # the main process has ended or wants nothing more
            os._exit(0)


def _reply(stream: Any, score: float | str | None) -> None:
    pickle.dump(score, stream)
    stream.flush()


def _measured(name: str, reference: NDArray[Any], decoded: NDArray[Any]) -> float | str:
    try:
        if name not in MEASURES:
            MEASURES[name] = load(installed(name).function)
        return MEASURES[name](reference, decoded)
    except Exception as error:  # a library is missing: what signals bring about is NaN
        return f"{name} cannot be computed: {type(error).__name__}: {error}"


def _known(metrics: Sequence[str]) -> tuple[str, ...]:
    for name in metrics:
        if name not in MEASURES and name in declared() and declared()[name].apart:  # of another package
            MEASURES[name] = load(declared()[name].function)
        if name not in MEASURES:
            raise UserError(f"no metric {name!r} of audio; there are: {', '.join(MEASURES)}")
    return tuple(metrics)
