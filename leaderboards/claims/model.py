"""A paper's published claims as data: the runs that test them, what each claim must show, tables and figures.

runs:    label and settings with {placeholders}, filled in by the `names` of a profile and each combination of its `for`
claims:  test: {value: [METRIC, SIDE]}, {difference: [METRIC, SIDE, SIDE]} or {ratio: [METRIC, SIDE, SIDE]}, and a bound
         (at_least, at_most, above, below, or about with a tolerance); or {all: [TESTS]}, {any: [TESTS]}
METRIC:  a column of items.csv, a path into the record, or {share: COLUMN, beyond: MAGNITUDE}
SIDE:    labels, of which the average counts; or {every: LABELS} or {any: LABELS}, {runs: LABELS, subset: {COLUMN: ...}}
subset:  of a claim or side: {COLUMN: {at_least: X, at_most: Y}} or {COLUMN: VALUES}

Labels may have * and ?. claims/frae.yaml is an example; its bounds are strict (above, below) where a claim is one of
direction, so that no change at all bears out neither.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import ClaimsError, nearest

CLAIMS = Path(__file__).parent
SIDES = {"value": 1, "difference": 2, "ratio": 2}  # form of a comparison: how many sides it has
Bound = Literal["at_least", "at_most", "above", "below", "about"]
Split = Literal["test", "train"]
Quantifier = Literal["mean", "every", "any"]


class LabelledRun(NamedTuple):
    """One labelled run of a profile."""

    settings: Mapping[str, Any]  # as in a run file
    on_train: bool  # scored on training items as well


class Column(NamedTuple):
    """A column of items.csv, or a dotted path into the record."""

    name: str
    beyond: float | None = None  # then: the share of items whose magnitude is above this

    def __str__(self) -> str:
        return self.name if self.beyond is None else f"share of |{self.name}| > {self.beyond:g}"


class Side(NamedTuple):
    """Runs by the patterns of their labels, and the items that count (None: those of the claim)."""

    patterns: tuple[str, ...]
    quantifier: Quantifier = "mean"
    subset: Mapping[str, Any] | None = None


class Criterion(NamedTuple):
    """A quantity of one or two sides, against a bound."""

    form: str
    metric: Column
    sides: tuple[Side, ...]
    bound: Bound
    limit: float
    tolerance: float = 0.0  # of "about"


class Joint(NamedTuple):
    """Several tests of which all, or at least one, must hold."""

    kind: Literal["all", "any"]
    tests: tuple["Test", ...]


Test = Criterion | Joint


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper and what would show it here."""

    id: str
    statement: str
    where: str
    paper: str  # the number, as published
    test: Test
    subset: Mapping[str, Any] = field(default_factory=dict)
    splits: tuple[Split, ...] = ("test",)


@dataclass(frozen=True)
class Table:
    """Published numbers beside ours: label -> a number for each metric."""

    title: str
    metrics: tuple[str, ...]
    paper: Mapping[str, Sequence[float | None]]
    splits: tuple[Split, ...] = ("test",)
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture: `rate`, a metric against a rate; `boxes` over items; `by`, means at each value of a condition."""

    file: str
    kind: str
    title: str
    runs: Mapping[str, Side]  # name in the legend -> runs
    metric: str
    rate: str = ""
    condition: str = ""
    reference: str = ""  # metric of the dashed line
    split: Split = "test"
    subset: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """How much of it is run."""

    cost: str
    settings: Mapping[str, Any]  # of every run
    names: Mapping[str, Any]  # placeholder -> what stands for it
    train_items: int  # how many of the training items are scored, spread over the split


@dataclass(frozen=True)
class ClaimsFile:
    """All of it."""

    path: Path
    paper: str
    notes: tuple[str, ...]
    protocol: tuple[str, ...]
    profiles: Mapping[str, Profile]
    runs: Mapping[str, Mapping[str, LabelledRun]]  # profile -> label -> run
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


def claims_files() -> dict[str, Path]:
    """Those of the package: name -> file."""
    return {path.stem: path for path in sorted(CLAIMS.glob("*.yaml"))}


def find_claims(name: str) -> Path:
    """The file of a name, or the user's own *.yaml. ClaimsError: there is none."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    known = claims_files()
    if name not in known:
        raise ClaimsError(f"no claims are called {name!r}{nearest(name, [*known])} There are: {', '.join(known)}")
    return known[name]


def matching(patterns: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The labels that any of the patterns fits, in their order."""
    return [label for label in labels if any(fnmatchcase(label, pattern) for pattern in patterns)]


def criteria(test: Test) -> Iterator[Criterion]:
    """All that a test compares."""
    if isinstance(test, Criterion):
        yield test
    else:
        for part in test.tests:
            yield from criteria(part)
