"""`benchmark tune`: Bayesian optimisation of hyper-parameters (Optuna's tree-structured Parzen estimator).

space -> trial's options -> spec -> training -> score -> study file -> ... -> recipe that `benchmark run --config` reads

Hinrichs, Bilsky & Ostermann used SMAC. See objectives.py for what is maximised, search_space.py for what is varied.
"""

import itertools
import os
import signal
import tempfile
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optuna.trial import Trial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...errors import UserError
from ...runs.run import watched_on
from ...specs.spec import Spec
from .aim import Aim, Outcome, Report
from .objective import attempt, check_aim, prepare
from .report import draw_history, reason_of, show, write_recipe
from .space import default_space, make_space, overlay, read_space, staged_as_published
from .study import SECONDS, Search, opened
from .workers import Worker, Workers, workers

Told = Callable[..., None]  # number of a trial that ended, and why where it is not written down


def tune(specs: Sequence[Spec], asked: Namespace, command: str, console: Console) -> None:
    """Search until `asked.trials` trials are done, in all calls together, and write what was found."""
    spec = _one(specs)
    aim = _aim(asked, spec)
    recipe = _recipe(asked)
    if aim.objective == "pattern":
        spec = staged_as_published(spec)
    space = make_space(read_space(asked.space) if asked.space else default_space(spec), spec)
    check_aim(aim, spec, space)
    settings = {
        "space": {path: asdict(dimension) for path, dimension in space.items()},
        "objective": {name: value for name, value in asdict(aim).items() if name != "stages"},
        "pruner": asked.pruner,
        "run": spec.recorded(),
    }
    with opened(asked.study, settings, space, spec.seed, asked.pruner) as search:
        scored_by = prepare(spec, aim, watched_on(console))
        console.print(f"[bold]{spec.codec.name}[/]: {len(space)} options; {scored_by}", highlight=False, soft_wrap=True)
        if asked.workers > 1:
            console.print(
                "several workers: what is tried next depends on which trial ends first; no two searches agree"
            )
        with tempfile.TemporaryDirectory(prefix="tune-") as folder:
            apart = any(path.startswith(("codec.", "training.")) for path in space)  # nothing is common to two trials
            _search(search, spec, aim if apart else replace(aim, stages=Path(folder)), asked, console)
        _write(search, spec, scored_by, recipe, command, console)
    console.print(f"study: {asked.study}", highlight=False, soft_wrap=True)
    console.print(f"next: benchmark run --config {recipe}", highlight=False, soft_wrap=True)


def _recipe(asked: Namespace) -> Path:
    """Where the recipe goes. UserError where it cannot: said before the search, not after it."""
    recipe: Path = asked.out or asked.study.with_suffix(".yaml")
    if recipe.resolve() == asked.study.resolve():
        raise UserError(f"--out {recipe}: that is the study; name another file")
    try:
        recipe.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {recipe}: cannot be written ({error.strerror}); choose another file") from error
    if recipe.is_dir() or not os.access(recipe.parent, os.W_OK):
        raise UserError(f"--out {recipe}: cannot be written; choose another file")
    return recipe


def _one(specs: Sequence[Spec]) -> Spec:
    """UserError: it is a grid, or nothing that can be trained."""
    if len(specs) > 1:
        raise UserError(f"tune takes one quantizer, codec, corpus, bitrate and seed, not {len(specs)} combinations")
    if not specs[0].trained:
        raise UserError(f"{specs[0].codec.name} is not trained; tune another codec, see benchmark ls codecs")
    return specs[0]


def _aim(asked: Namespace, spec: Spec) -> Aim:
    """What was asked for; codecs of stimulation patterns have the published objective by default."""
    for name in ("trials", "workers"):
        if getattr(asked, name) < 1:
            raise UserError(f"--{name} {getattr(asked, name)} must be at least 1")
    stimulation = spec.codec.declared("domain") == "stimulation"
    objective = asked.objective or ("pattern" if stimulation else "validation")
    given = {"adam_steps": asked.adam_steps, "spsa_steps": asked.spsa_steps, "item": asked.item}
    given = {name: value for name, value in given.items() if value is not None}
    if objective == "validation" and (given or asked.quantized):
        name = next(iter(given), "quantized").replace("_", "-")
        raise UserError(f"--{name} is for --objective pattern; a validation trains by --training.OPTION")
    try:
        return Aim(objective, quantized=asked.quantized, **given)
    except ValueError as error:
        raise UserError(f"--{str(error).replace('_', '-')}") from error


def _search(search: Search, spec: Spec, aim: Aim, asked: Namespace, console: Console) -> None:
    """Trials until there are enough; one that Ctrl-C cuts off runs first in the next call."""
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(TextColumn("{task.description}"), *columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=asked.trials)

        def told(number: int, reason: str = "") -> None:
            trial = search.study.trials[number]
            score = reason or (f"{trial.value:.4f}" if trial.state is TrialState.COMPLETE else reason_of(trial))
            seconds = f"  {trial.user_attrs[SECONDS]:.0f} s" if SECONDS in trial.user_attrs else ""
            console.print(f"trial {number}: {score}{seconds}", markup=False, highlight=False, soft_wrap=True)
            _advance(progress, task, search)

        _advance(progress, task, search)
        try:
            if asked.workers == 1:
                _one_by_one(search, spec, aim, asked.trials, told)
            else:
                with workers(min(asked.workers, asked.trials), asked.plugin, attempt) as pool:
                    _side_by_side(search, spec, aim, asked.trials, pool, told)
        except BaseException:
            for trial in search.study.get_trials(states=[TrialState.RUNNING]):
                search.cut_off(trial.number, killed=False)
            raise


def _advance(progress: Progress, task: Any, search: Search) -> None:
    best = search.scored
    text = f"best {best[0].value:.4f} (trial {best[0].number})" if best else "no score yet"
    progress.update(task, completed=len(search.finished), description=text)


def _one_by_one(search: Search, spec: Spec, aim: Aim, trials: int, told: Told) -> None:
    with _stopping() as stop_if_asked:
        while len(search.finished) < trials:
            trial, values = search.next_trial()
            search.tell(trial, attempt(spec, values, aim, _watch(trial)))
            told(trial.number)
            stop_if_asked()


@contextmanager
def _stopping() -> Iterator[Callable[[], None]]:
    """Ctrl-C is heard, if only after a trial, where it falls into a destructor: what is raised there Python drops."""
    asked = threading.Event()

    def stop_if_asked() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    def note(*_: Any) -> None:
        asked.set()
        stop_if_asked()

    if threading.current_thread() is not threading.main_thread():
        yield stop_if_asked
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)


def _side_by_side(search: Search, spec: Spec, aim: Aim, trials: int, pool: Workers, told: Told) -> None:
    while len(search.finished) < trials:
        begun = len(search.finished) + len(pool.all) - len(pool.idle)
        for worker in pool.idle[: trials - begun]:
            trial, values = search.next_trial()
            worker.start((trial, _watch(trial)), spec, values, aim)
        for worker in pool.ready():
            _listen(search, worker, pool, told)


def _listen(search: Search, worker: Worker, pool: Workers, told: Told) -> None:
    """What one worker has to say."""
    message = worker.receive()
    if message is None:
        pool.replace(worker)
    if worker.task is None:
        return
    trial, report = worker.task
    if isinstance(message, float):
        worker.answer(report(message))
    elif isinstance(message, Outcome):
        search.tell(trial, message)
        worker.task = None
        told(trial.number)
    else:
        told(trial.number, search.cut_off(trial.number))


def _watch(trial: Trial) -> Report:
    """Notes intermediate scores of a trial, and says whether it is to end."""
    steps = itertools.count()

    def report(score: float) -> bool:
        trial.report(score, next(steps))
        return trial.should_prune()

    return report


def _write(search: Search, spec: Spec, scored_by: str, recipe: Path, command: str, console: Console) -> None:
    if not search.scored:
        last = search.finished[-1]
        raise UserError(f"none of {len(search.finished)} trials has a score; the last: {reason_of(last)}")
    best = search.scored[0]
    picture = recipe.with_suffix(".png")
    show(search, console)
    write_recipe(recipe, overlay(spec, search.values(best)), best, scored_by, command)
    draw_history(search, scored_by, picture)
    console.print(f"history: {picture}", highlight=False, soft_wrap=True)
