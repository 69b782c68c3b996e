"""CIFAR-10: 60,000 photographs of 32x32 pixels, in the files of its binary version.

ROOT/cifar-10-batches-bin/data_batch_1.bin to data_batch_5.bin and test_batch.bin: 10,000 records each of 1 byte (the
class, unused here) and 3,072 bytes (red, green and blue planes, row by row). The last 5,000 of data_batch_5 are
validation, the other 45,000 train, test_batch is test.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import Arrays, Content, Split, shown
from .errors import DataError
from .parts.downloads import Archive, located

ARCHIVE = Archive(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz",
    "md5:c32a1d4ab5d03f1284b67883e8d87530",
    "170 MB",
    "cifar-10-batches-bin",
    "test_batch.bin",
)
RECORDS, CLASSES, PIXELS = 10_000, 10, 3 * 32 * 32
VALIDATION = 5_000


class CIFAR10(Arrays):
    """Small photographs.

    Options: root, the folder that holds cifar-10-batches-bin/ (or that folder itself); download, fetch 170 MB into root
    if it is not there; mirror, the address that holds the archive.
    """

    kind: ClassVar[Content] = "image"
    title: ClassVar[str] = "CIFAR-10"
    licence: ClassVar[str] = "not stated"
    citation: ClassVar[str] = "Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009"
    revision: ClassVar[str] = "binary version"
    url: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html"

    def __init__(self, root: str = "", download: bool = False, mirror: str = ARCHIVE.mirror) -> None:
        super().__init__()
        self.root = root
        self.download = download
        self.mirror = mirror

    def array(self, split: Split) -> np.ndarray:
        """float32 [N, 3, 32, 32] in [0, 1]."""
        if split == "test":
            images = self._batch("test_batch.bin")
        elif split == "validation":
            images = self._batch("data_batch_5.bin")[-VALIDATION:]
        else:
            images = np.concatenate([self._batch(f"data_batch_{number}.bin") for number in range(1, 6)])[:-VALIDATION]
        return images.reshape(-1, 3, 32, 32).astype(np.float32) / 255

    def _batch(self, name: str) -> np.ndarray:
        """uint8 [10000, 3072]."""
        path = self._home / name
        try:
            data = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise DataError(f"{shown(path)}: cannot be opened ({error.strerror or error})") from None
        if data.size != RECORDS * (1 + PIXELS):
            raise DataError(f"{shown(path)}: {data.size} bytes instead of {RECORDS * (1 + PIXELS)}; unpack it again")
        records = data.reshape(RECORDS, 1 + PIXELS)
        if records[:, 0].max() >= CLASSES:
            raise DataError(f"{shown(path)}: not of the binary version of CIFAR-10: a class above {CLASSES - 1}")
        return records[:, 1:]

    @cached_property
    def _home(self) -> Path:
        places, patterns = (ARCHIVE.folder, "."), ("data_batch_*.bin",)
        try:
            return located("cifar10", self.root, places, patterns, ARCHIVE, self.mirror if self.download else None)
        except DataError as error:
            raise DataError(f"{error}; --data patches needs no files") from None
