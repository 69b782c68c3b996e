"""Worker processes give the scores that one process gives, in order, and outlive whatever a score does to one."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.metrics.scoring import pool as workers
from codecbench.benchmark.metrics.scoring.pool import MEASURES, ScorePool, available_cores, kept_workers
from codecbench.datamodules.demo import Demo

NAMES = ("pesq_wb", "visqol")
DEADLY = """
import os, signal, sys
from codecbench.benchmark.metrics.scoring import pool as workers
def die(reference, decoded):
    if reference[0] == 7:
        os.kill(os.getpid(), signal.SIGABRT)
    print("noise among the scores", flush=True)
    return float(reference[0])
workers.MEASURES["pesq_wb"] = die
workers.MEASURES["estoi"] = lambda reference, decoded: float("nan")
workers.MEASURES["stoi"] = lambda reference, decoded: float(decoded[0])
def missing(reference, decoded):
    raise ImportError("no such library")
workers.MEASURES["visqol_audio"] = missing
"""


@pytest.fixture(scope="module")
def pairs():
    corpus, generator = Demo(), np.random.default_rng(0)
    sounds = [corpus.load(item) for item in corpus.items("test")[:3]]
    return [(each, each + 0.01 * generator.standard_normal(len(each)).astype(np.float32)) for each in sounds]


@pytest.fixture
def deadly(monkeypatch):
    """Workers whose PESQ aborts where a reference starts with 7, and whose ViSQOL of audio lacks a library."""
    monkeypatch.setattr(workers, "START", workers.START.replace("from {module}", DEADLY + "from {module}"))


def running(pool):
    return [worker.process for worker in pool._running.values()]


def test_scores_equal_those_of_one_process_and_come_in_order(pairs):
    with ScorePool(1) as alone:
        expected = [alone.submit(NAMES, *pair).result() for pair in pairs]
    assert expected == [{name: MEASURES[name](*pair) for name in NAMES} for pair in pairs]
    with ScorePool(2) as pool:
        scores = [pool.submit(NAMES, *pair) for pair in pairs]
        processes = running(pool)
    assert [each.result() for each in scores] == expected
    assert pool.lost == [] and all(process.poll() is not None for process in processes)


def test_signals_may_change_once_they_are_submitted(pairs):
    reference, decoded = (each.copy() for each in pairs[0])
    with ScorePool(2, ready=()) as pool:
        score = pool.submit(["stoi"], reference, decoded)
        reference[:] = decoded[:] = 0
    assert score.result() == {"stoi": MEASURES["stoi"](*pairs[0])}


def test_what_dies_with_its_process_is_nan_alone(deadly):
    references = [np.full(3, value) for value in (1.0, 7.0, 2.0, 7.0, 3.0, 4.0)]
    with ScorePool(2, ready=()) as pool:
        scores = [pool.submit(["stoi", "pesq_wb", "estoi"], each, each + 1) for each in references]
        found = [each.result() for each in scores]
    assert [each["pesq_wb"] for each in found] == pytest.approx([1, np.nan, 2, np.nan, 3, 4], nan_ok=True)
    assert [each["stoi"] for each in found] == [2, 8, 3, 8, 4, 5]
    assert all(list(each) == ["stoi", "pesq_wb", "estoi"] and np.isnan(each["estoi"]) for each in found)
    assert pool.lost == ["pesq_wb", "pesq_wb"]


def test_a_process_that_dies_idle_costs_no_score(deadly):
    with ScorePool(2, ready=()) as pool:
        assert pool.submit(["pesq_wb"], np.ones(3), np.ones(3)).result() == {"pesq_wb": 1}
        for process in running(pool):
            process.kill()
            process.wait()
        scores = [pool.submit(["pesq_wb"], np.ones(3), np.ones(3)) for _ in range(4)]
        assert [each.result() for each in scores] == [{"pesq_wb": 1}] * 4


def test_a_missing_library_is_said_and_does_not_upset_what_follows(deadly):
    with ScorePool(2, ready=()) as pool:
        wrong = pool.submit(["visqol_audio", "stoi"], np.ones(3), np.ones(3))
        right = [pool.submit(["pesq_wb", "stoi"], np.full(3, n), np.full(3, n + 1)) for n in range(4)]
        with pytest.raises(UserError, match="visqol_audio cannot be computed: ImportError: no such library"):
            wrong.result()
        assert [each.result() for each in right] == [{"pesq_wb": n, "stoi": n + 1} for n in range(4)]


def test_a_start_is_tried_again_where_something_kills_it(tmp_path, monkeypatch):
    place = str(tmp_path / "tried")
    once = f"import os\ntry:\n    os.mkdir({place!r})\n    os.kill(os.getpid(), 9)\nexcept FileExistsError:\n    pass\n"
    monkeypatch.setattr(workers, "START", once + workers.START)
    with ScorePool(2, ready=()) as pool:
        scores = [pool.submit(["pesq_wb"], np.ones(3), np.ones(3)) for _ in range(3)]
        assert all(np.isnan(each.result()["pesq_wb"]) for each in scores)
    assert pool.lost == [] and os.path.isdir(place)  # noqa: PTH112


@pytest.mark.parametrize(
    "start", ["raise SystemExit('broken')", "import os; os.write(2, b'broken'); os.kill(os.getpid(), 9)"]
)
def test_processes_that_cannot_start_are_said(start, monkeypatch, capfd):
    monkeypatch.setattr(workers, "START", start)
    with ScorePool(2) as pool, pytest.raises(UserError, match="does not start"):
        pool.submit(["stoi"], np.ones(3), np.ones(3)).result()
    assert "broken" in capfd.readouterr().err


def test_an_error_drops_what_is_not_scored_and_ends_the_processes(pairs):
    with pytest.raises(ValueError, match="elsewhere"), ScorePool(2) as pool:
        scores = [pool.submit(NAMES, *pair) for pair in pairs]
        processes = running(pool)
        raise ValueError("elsewhere")
    assert all(process.poll() is not None for process in processes)
    assert all(each.done() for each in scores)
    assert not [thread for thread in threading.enumerate() if "_attend" in thread.name]


def test_processes_are_kept_for_the_next_pool_where_that_is_asked_for(pairs):
    with kept_workers():
        with ScorePool(2, ready=()) as pool:
            first = [pool.submit(["pesq_wb"], *pair).result() for pair in pairs]
            kept = running(pool)
        assert all(process.poll() is None for process in kept)
        with kept_workers(), ScorePool(2, ready=()) as pool:
            assert [pool.submit(["pesq_wb"], *pair).result() for pair in pairs] == first
            again = running(pool)
        assert {process.pid for process in again} <= {process.pid for process in kept}
        for process in kept:
            process.kill()
            process.wait()
        with ScorePool(2, ready=()) as pool:
            assert pool.submit(["pesq_wb"], *pairs[0]).result() == first[0] and pool.lost == []
        with ScorePool(2, ready=("pesq_wb",)) as pool:
            pool.submit(["pesq_wb"], *pairs[0]).result()
            others = running(pool)
    assert all(process.poll() is not None for process in others)


def test_an_error_ends_kept_processes_too(pairs):
    with pytest.raises(ValueError, match="elsewhere"), kept_workers(), ScorePool(2, ready=()) as pool:
        pool.submit(["pesq_wb"], *pairs[0]).result()
        processes = running(pool)
        raise ValueError("elsewhere")
    assert processes and all(process.poll() is not None for process in processes)


def test_what_is_asked_wrongly_is_said():
    with pytest.raises(UserError, match="at least one"):
        ScorePool(0)
    with pytest.raises(UserError, match="no metric 'mos' of audio; there are: stoi"), ScorePool(1) as pool:
        pool.submit(["mos"], np.ones(3), np.ones(3))
    with pytest.raises(RuntimeError, match="inside its context"):
        ScorePool(2).submit(["stoi"], np.ones(3), np.ones(3))


def test_as_many_workers_as_cores_but_not_more_than_eight(monkeypatch):
    assert ScorePool().workers == min(available_cores(), 8)
    monkeypatch.setattr(workers, "available_cores", lambda: 64)
    assert ScorePool().workers == 8


THREADS = """
import numba, torch
@numba.njit(parallel=True)
def total(x):
    result = 0.0
    for i in numba.prange(len(x)):
        result += x[i]
    return result
total(numpy.ones(10))
torch.set_num_threads(2); torch.ones(500, 500) @ torch.ones(500, 500)
"""
SCRIPT = """
import time, numpy
{before}
print("started")
from codecbench.benchmark.metrics.scoring.pool import ScorePool
signal = numpy.random.default_rng(0).standard_normal(16000)
with ScorePool(2, ready=()) as pool:
    scores = [pool.submit(["pesq_wb"], signal, signal) for _ in range(3)]
    print([round(each.result()["pesq_wb"], 3) for each in scores], flush=True)
    print(*[worker.process.pid for worker in pool._running.values()], flush=True)
    {then}
"""


def script(before="", then="pass", **options):
    """A user's script without a guard of __main__."""
    command = [sys.executable, "-c", SCRIPT.format(before=before, then=then)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def ended(pids):
    """Whether the processes end within ten seconds; one that only waits to be reaped has ended."""

    def alive(pid):
        try:
            with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    until = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def test_a_script_without_a_guard_whose_threads_are_at_work_runs_once():
    output, errors = script(before=THREADS).communicate(timeout=60)
    assert output.splitlines()[:2] == ["started", "[4.644, 4.644, 4.644]"], errors


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_nothing_is_left_after_ctrl_c_or_a_kill(how):
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # not so in every background job
    process = script(heard, then="time.sleep(60)", start_new_session=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in [process.stdout.readline() for _ in range(3)][-1].split()]
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    else:
        process.kill()
    _, errors = process.communicate(timeout=30)
    assert len(pids) == 2 and ended(pids)
    assert errors.count("Traceback") == (how == "interrupt")
