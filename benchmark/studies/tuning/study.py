"""The file of a search: an Optuna study in SQLite, bound to one space and one set of settings.

States of a trial: complete; pruned, or invalid with the reason; failed: cut off, in the queue again and not counted.
One process at a time writes the file, its workers do not.
"""

import hashlib
import json
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState

from ...errors import UserError
from .aim import Outcome
from .space import Space

NAME = "benchmark tune"
PRUNERS = {  # no trial is ended before five others have shown what can be expected
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5),
    "hyperband": lambda: optuna.pruners.HyperbandPruner(),
    "none": lambda: optuna.pruners.NopPruner(),
}
ATTEMPTS = 2  # of a trial whose process is killed
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
KILLED = f"its process was killed {ATTEMPTS} times"
ATTEMPT, REASON, SECONDS = "attempt", "reason", "seconds"  # attributes of trials
SETTINGS, DIGEST = "settings", "digest"  # of the study


class Search:
    """What a study has tried, and what it tries next.

    With one worker every trial follows from the settings, the seed and the trials before it, interruptions or not.
    """

    def __init__(self, study: optuna.Study, space: Space, seed: int) -> None:
        self.study, self.space, self.seed = study, space, seed
        for trial in self._in(TrialState.RUNNING):  # their process is gone, or it would hold the lock
            self.cut_off(trial.number)

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that count: with a score, pruned or invalid."""
        return self._in(*COUNTED)

    @property
    def scored(self) -> list[FrozenTrial]:
        """Trials with a score, best first."""
        return sorted(self._in(TrialState.COMPLETE), key=lambda trial: (-(trial.value or 0.0), trial.number))

    def next_trial(self) -> tuple[Trial, dict[str, Any]]:
        """A new trial, or one that was cut off, and its values."""
        begun = len(self._in(*COUNTED, TrialState.RUNNING))
        entropy = np.random.SeedSequence([self.seed, begun]).generate_state(1)
        self.study.sampler = optuna.samplers.TPESampler(seed=int(entropy[0]), constant_liar=True)
        trial = self.study.ask()
        return trial, {path: dimension.suggest(path, trial) for path, dimension in self.space.items()}

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """The values of a trial, as its options take them."""
        fixed = optuna.trial.FixedTrial(trial.params)
        return {path: dimension.suggest(path, fixed) for path, dimension in self.space.items()}

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """How a trial ended. One that is invalid counts as pruned: of a failed one the sampler would learn nothing."""
        trial.set_user_attr(SECONDS, outcome.seconds)
        if outcome.score is not None:
            self.study.tell(trial, outcome.score)
        else:
            trial.set_user_attr(REASON, outcome.reason)
            self.study.tell(trial, state=TrialState.PRUNED)

    def cut_off(self, number: int, killed: bool = True) -> str:
        """Queue a trial anew that did not end; one whose process was killed ATTEMPTS times is given up. Says which."""
        trial = self.study.trials[number]
        attempt = trial.user_attrs.get(ATTEMPT, 1)
        if killed and attempt >= ATTEMPTS:
            self.study.tell(number, state=TrialState.PRUNED)
            return KILLED
        self.study.tell(number, state=TrialState.FAIL)
        self.study.enqueue_trial(trial.params, {ATTEMPT: attempt + killed})
        return "its process was killed; it runs again"

    def _in(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)


@contextmanager
def opened(path: Path, settings: Mapping[str, Any], space: Space, seed: int, pruner: str) -> Iterator[Search]:
    """The search of a file, new or gone on with. UserError: it is no such file, in use, or of other settings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as busy:
        raise UserError(f"--study {path}: another process is at work on it; wait for it") from busy
    except OSError as error:
        raise UserError(f"--study {path}: cannot be written ({error.strerror}); choose another file") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield Search(_study(path, settings, pruner), space, seed)
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _study(path: Path, settings: Mapping[str, Any], pruner: str) -> optuna.Study:
    _check_file(path)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
        study = optuna.create_study(
            storage=storage, study_name=NAME, direction="maximize", load_if_exists=True, pruner=PRUNERS[pruner]()
        )
        known = study.user_attrs.get(SETTINGS)
    except Exception as error:  # SQLAlchemy's, Optuna's and SQLite's have no common base
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"--study {path}: cannot be read as a study ({reason}); name another file") from error
    asked = json.loads(json.dumps(settings))
    if known is None:
        if study.get_trials(deepcopy=False):
            raise UserError(f"--study {path}: does not say what it searches; name another file")
        study.set_user_attr(SETTINGS, asked)
        study.set_user_attr(DIGEST, digest_of(asked))
    elif study.user_attrs.get(DIGEST) != digest_of(asked):
        raise UserError(f"--study {path}: belongs to another search ({_difference(known, asked)}); name another file")
    return study


def digest_of(settings: Any) -> str:
    """16 hex digits of settings as JSON."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _check_file(path: Path) -> None:
    """UserError unless there is no such file, an empty one, or an Optuna study."""
    if not path.exists() or not path.stat().st_size:
        return
    try:
        with closing(sqlite3.connect(f"file:{path.resolve()}?mode=ro", uri=True)) as file:
            (state,) = file.execute("PRAGMA quick_check").fetchone()
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise UserError(f"--study {path}: no study, or a damaged one ({error}); name another file") from error
    if state != "ok":
        raise UserError(f"--study {path}: damaged ({state.splitlines()[0]}); name another file")
    if tables and not {"studies", "trials"} <= tables:
        raise UserError(f"--study {path}: holds something else than a study; name another file")


def _difference(known: Any, asked: Any, path: str = "") -> str:
    """The first place where two settings differ."""
    if isinstance(known, dict) and isinstance(asked, dict):
        for key in [*known, *asked]:
            if known.get(key, None) != asked.get(key, None):
                return _difference(known.get(key), asked.get(key), f"{path}.{key}".lstrip("."))
    known, asked = (json.dumps(value)[:60] for value in (known, asked))
    return f"{path} is {known} there, {asked} here"
