"""The contract's checks of a plug-in: for `benchmark check`, and before anything is trained with one from outside."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from rich.console import Console

from ...codecs.base import Codec
from ...quantizers.base import Nested, Quantizer
from ...quantizers.checks.running import Result
from ...quantizers.identity import Identity
from ..errors import UserError
from .options import nested_options, told_by
from .plugin import Plugin
from .registry import BUILT_IN, Kind, origin, registered_name

CHANNELS = 5  # on which a quantizer is checked where nothing says otherwise


def quantizer_results(name: str, make: Callable[[int], Quantizer], channels: int) -> list[Result]:
    """Every check of the quantizers' contract; UserError where make(channels) refuses them."""
    from ...quantizers.checks.contract import run_checks

    with told_by(name), _one_thread():
        make(channels)
        return run_checks(partial(make, channels))


def codec_results(codec: Plugin[Any]) -> list[Result]:
    """Every check of the contract of codecs, or of those with nothing to train; UserError where it refuses them."""
    if registered_name("classical", codec.cls):
        from ...codecs.classical.checks import run_checks as run_classical_checks

        with told_by(codec.name):
            return run_classical_checks(codec.build)
    from ...codecs.checks import run_checks

    with _one_thread():
        codec.build(lambda channels, share: Identity(channels))
        return run_checks(codec.build)


def require_contract(quantizer: Plugin[Any], codec: Plugin[Any], built: Codec | None, console: Console) -> None:
    """UserError where one of these plug-ins, or of those inside it, is from outside and fails a check; once for each.

    `built` is the codec around its quantizers, which are checked on the channels that it gives them; None where it has
    none of them.
    """
    if _from_outside("classical" if built is None else "codecs", codec.cls):
        command = f"--codec {codec.name}"
        _demand_all(codec.name, command, (codec.cls, repr(codec.options)), partial(codec_results, codec), console)
    parts = [part for whole in built.quantizers for part in whole.modules()] if built is not None else []
    for part_class, make in _makers(quantizer.cls, quantizer.arguments) if parts else ():
        if _from_outside("quantizers", part_class):
            name = str(registered_name("quantizers", part_class))
            for channels in sorted({part.channels for part in parts if type(part) is part_class}):  # type: ignore[misc]
                results = partial(quantizer_results, name, make, channels)
                command = f"--quantizer {name} --channels {channels}"
                _demand_all(name, command, (part_class, repr(make)), results, console)


_passed: set[tuple[Any, ...]] = set()


def _demand_all(
    name: str, command: str, subject: tuple[Any, str], results: Callable[[], list[Result]], console: Console
) -> None:
    if (command, *subject) in _passed:
        return
    console.print(f"Checking {name} against the contract, some seconds ...", style="dim", highlight=False)
    failed = [result for result in results() if not result.passed]
    if failed:
        more = f"; {len(failed) - 1} more fail" if len(failed) > 1 else ""
        message = " ".join(failed[0].message.split())
        raise UserError(f"{name} fails the check {failed[0].name}: {message}{more} (see benchmark check {command})")
    _passed.add((command, *subject))


def _makers(cls: Any, values: Mapping[str, Any]) -> Iterator[tuple[Any, Callable[[int], Quantizer]]]:
    """A quantizer's class and how one is made, then those of the quantizers inside it."""
    yield cls, partial(cls, **values)
    for value in {**nested_options("quantizer", cls), **values}.values():
        if isinstance(value, Nested):
            yield from _makers(value.cls, value.options)


def _from_outside(kind: Kind, cls: type) -> bool:
    name = registered_name(kind, cls)
    return name is not None and origin(kind, name) != BUILT_IN


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny matrices: two threads are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
