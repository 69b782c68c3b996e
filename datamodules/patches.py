"""32x32 patches of the two photographs that come with scikit-learn: a small stand-in for CIFAR-10, always at hand.

For smoke tests and CI: two photographs say little about images. Train, validation and test are cut from columns 0 to
415, 416 to 511 and 512 to 639 of each: train every 8 pixels (overlapping), the others every 32.
"""

from typing import ClassVar

import numpy as np

from .base import Arrays, Content, Split
from .errors import DataError

SIDE = 32
COLUMNS: dict[Split, slice] = {"train": slice(0, 416), "validation": slice(416, 512), "test": slice(512, 640)}
STRIDE: dict[Split, int] = {"train": 8, "validation": SIDE, "test": SIDE}
PHOTOGRAPH = (427, 640, 3)


class Patches(Arrays):
    """Patches of two photographs; no options."""

    kind: ClassVar[Content] = "image"
    title: ClassVar[str] = "patches of 2 photographs, not CIFAR-10"
    licence: ClassVar[str] = "CC BY 2.0"
    citation: ClassVar[str] = "photographs by danielbuechele (china.jpg) and vultilion (flower.jpg), Flickr, 2011"
    revision: ClassVar[str] = "1"
    url: ClassVar[str] = "https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_sample_images.html"

    def notes(self) -> list[str]:
        """That they are few."""
        return ["patches of two photographs, not CIFAR-10"]

    def array(self, split: Split) -> np.ndarray:
        """float32 [N, 3, 32, 32] in [0, 1]."""
        patches = []
        for photograph in _photographs():
            region = photograph[:, COLUMNS[split]]
            windows = np.lib.stride_tricks.sliding_window_view(region, (SIDE, SIDE), axis=(0, 1))
            patches.append(windows[:: STRIDE[split], :: STRIDE[split]].reshape(-1, 3, SIDE, SIDE))
        return np.concatenate(patches).astype(np.float32) / 255


def _photographs() -> list[np.ndarray]:
    """uint8 [427, 640, 3] each."""
    from sklearn.datasets import load_sample_images

    try:
        images = load_sample_images().images
    except ImportError:
        raise DataError("the photographs are JPEG files, which need Pillow; pip install pillow") from None
    if [image.shape for image in images] != [PHOTOGRAPH] * 2:
        raise DataError("scikit-learn's sample photographs are not those this corpus is cut from; use --data cifar10")
    return images
