"""What a search found: the best trials, which options mattered, the recipe and a picture of its history."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from ....leaderboards.plots import save_figure
from ....leaderboards.records import write_whole
from ...specs.recipes import DERIVED_KEYS
from ...specs.spec import Spec
from .study import KILLED, REASON, SECONDS, Search

BEST = 5  # trials in the table
LEAST_FOR_IMPORTANCE = 8  # trials with a score
DPI = 150


def show(search: Search, console: Console) -> None:
    """The best trials, what the others came to, and which options mattered."""
    table = Table(title=f"best of {len(search.finished)} trials")
    for column in ("trial", "score", "s", "options"):
        table.add_column(column, justify="left" if column == "options" else "right")
    for trial in search.scored[:BEST]:
        values = "\n".join(f"{path}={_text(value)}" for path, value in search.values(trial).items())
        table.add_row(str(trial.number), f"{trial.value:.4f}", f"{trial.user_attrs.get(SECONDS, 0):.0f}", values)
    console.print(table)
    reasons = [reason_of(trial) for trial in search.finished if trial.state is TrialState.PRUNED]
    if reasons:
        pruned = reasons.count("pruned")
        console.print(f"{pruned} pruned, {len(reasons) - pruned} without a score")
    shares = importances(search)
    if shares:
        console.print("importance: " + ", ".join(f"{path} {share:.0%}" for path, share in shares.items()))


def reason_of(trial: FrozenTrial) -> str:
    """Why a trial has no score."""
    return trial.user_attrs.get(REASON, KILLED)


def importances(search: Search) -> dict[str, float]:
    """The share of the scores' variance that each option explains, by fANOVA; none where too few have a score."""
    if len(search.scored) < LEAST_FOR_IMPORTANCE:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=search.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return optuna.importance.get_param_importances(search.study, evaluator=evaluator)
        except (RuntimeError, ValueError):  # scores that are all the same
            return {}


def write_recipe(path: Path, spec: Spec, best: FrozenTrial, scored_by: str, command: str) -> None:
    """Settings that `benchmark run --config` reads; the file is there as a whole or not at all."""
    content: Mapping[str, Any] = {key: value for key, value in spec.as_dict().items() if key not in DERIVED_KEYS}
    head = f"# {command}\n# trial {best.number}: {best.value:.4f}, {scored_by}\n# benchmark run --config {path.name}\n"
    write_whole(path, head + yaml.safe_dump(content, sort_keys=False))


def draw_history(search: Search, scored_by: str, path: Path) -> None:
    """Every score in the order of trials, the best so far, and the trials without one."""
    figure = Figure(figsize=(6.4, 3.8), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    trials = sorted(search.scored, key=lambda trial: trial.number)
    numbers = [trial.number for trial in trials]
    scores = [float(trial.value or 0.0) for trial in trials]
    best = [max(scores[: place + 1]) for place in range(len(scores))]
    axis.plot(numbers, scores, "o", color="C0", markersize=4, label="score")
    last = max(trial.number for trial in search.finished)
    label = f"best so far, at last {best[-1]:.4f}"
    axis.step([*numbers, last], [*best, best[-1]], where="post", color="C1", label=label)
    others = [trial.number for trial in search.finished if trial.state is TrialState.PRUNED]
    if others:
        bottom = axis.get_xaxis_transform()
        axis.plot(others, [0.02] * len(others), "x", color="0.5", transform=bottom, label="pruned or invalid")
    axis.set_xlabel("trial")
    axis.set_ylabel("VSTOI" if "VSTOI" in scored_by else "negative validation loss")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
