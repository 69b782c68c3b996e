"""What was found out about files at an earlier start, so that a corpus of many gigabytes is not read again each time.

An answer counts while the file's size, its time of modification and that of its status are what they were. Answers on
one folder of files are a JSON file in the cache; a damaged one is taken for none, and nothing fails where none can be
written. Files changed just now are not remembered: within the clock's grain they could change again unseen.
"""

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

QUICK_BYTES = 1 << 27  # files of fewer bytes together are read again: that takes less than a second
SETTLED_SECONDS = 5.0


class FileMemory:
    """Answers of one kind on a set of files; a context manager that keeps them on leaving."""

    def __init__(self, what: str, paths: Sequence[Path]) -> None:
        self._answers: dict[str, Any] = {}
        self._file: Path | None = None
        self._new = False
        if sum(size for path in paths if (size := _size(path))) >= QUICK_BYTES:
            self._folder = os.path.commonpath([path.absolute().parent for path in paths])
            name = hashlib.sha256(os.fsencode(f"{what}\0{self._folder}")).hexdigest()[:32]
            self._file = cache_folder() / f"files-{name}.json"
            with contextlib.suppress(OSError, ValueError):
                answers = json.loads(self._file.read_text())
                self._answers = answers if isinstance(answers, dict) else {}

    def __enter__(self) -> "FileMemory":
        return self

    def __exit__(self, *error: object) -> None:
        if self._new and self._file is not None:
            with contextlib.suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with moved_when_complete(self._file) as file:
                    file.write(json.dumps(self._answers).encode())

    def recall(self, path: Path, find_out: Callable[[Path], str]) -> str:
        """The answer on a file: the remembered one, or find_out(path). What it raises is not remembered."""
        if self._file is None:
            return find_out(path)
        key, state = os.path.relpath(path.absolute(), self._folder), _state(path)
        known = self._answers.get(key)
        if state is not None and isinstance(known, list) and known[:-1] == state and isinstance(known[-1], str):
            return known[-1]
        answer = find_out(path)
        if state is not None and state == _state(path) and time.time() - max(state[1:]) / 1e9 > SETTLED_SECONDS:
            self._answers[key], self._new = [*state, answer], True
        return answer


def cache_folder(cache_dir: Path | None = None) -> Path:
    """The folder of the caches: as given, $CODECBENCH_CACHE or ~/.cache/codecbench; DataError where ~ is nobody's."""
    folder = cache_dir or Path(os.environ.get("CODECBENCH_CACHE") or "~/.cache/codecbench")
    try:
        return cache_dir or folder.expanduser()
    except RuntimeError:
        from ..errors import DataError

        raise DataError(f"{folder}: there is no such home folder; set CODECBENCH_CACHE to a path in full") from None


@contextlib.contextmanager
def moved_when_complete(path: Path) -> Iterator[BinaryIO]:
    """A file to write that has its name only once it is complete and on disk."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _state(path: Path) -> list[int] | None:
    """Size in bytes, and the times of modification and of status change in ns."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
