"""Points of the plane in four shapes: blobs, circles, moons, swiss-roll, drawn by scikit-learn.

The sets on which Vali & Backstrom 2022 (NSVQ, doi:10.1109/ACCESS.2022.3147670) compare vector quantizers. Their scales,
noise levels and blob centres are not printed; those here lead to the errors of the paper's Table 2 at 8 to 12 bit.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from .base import SPLITS, Arrays, Content, Split
from .errors import DataError

BLOBS = ((-6.0, -6.0), (6.0, -2.0), (-1.0, 7.0))  # centres of standard deviation 1, far apart
LARGEST_SEED = 1 << 30

Shape = Literal["blobs", "circles", "moons", "swiss-roll"]


class Toy(Arrays):
    """Vectors of two numbers.

    Options: shape, blobs, circles, moons or swiss-roll; points of each split; seed, from which the splits' own seeds
    follow.
    """

    kind: ClassVar[Content] = "vector"
    title: ClassVar[str] = "two-dimensional toy sets"
    licence: ClassVar[str] = "none needed"
    citation: ClassVar[str] = "Vali & Backstrom: NSVQ, IEEE Access 2022; Pedregosa et al., JMLR 2011"
    revision: ClassVar[str] = "1"
    url: ClassVar[str] = "https://scikit-learn.org/stable/datasets/sample_generators.html"

    def __init__(self, shape: Shape = "blobs", points: int = 100_000, seed: int = 0) -> None:
        super().__init__()
        if points < 1:
            raise DataError(f"points={points} must be at least 1")
        if not 0 <= seed <= LARGEST_SEED:
            raise DataError(f"seed={seed} must lie between 0 and {LARGEST_SEED}")
        self.shape: Shape = shape
        self.points = points
        self.seed = seed

    def array(self, split: Split) -> np.ndarray:
        """float32 [points, 2]."""
        from sklearn import datasets  # slow to import

        options: dict[str, Any] = {"n_samples": self.points, "random_state": 3 * self.seed + SPLITS.index(split)}
        draw: dict[Shape, Callable[[], Any]] = {
            "blobs": lambda: datasets.make_blobs(centers=np.array(BLOBS), **options)[0],
            "circles": lambda: 10 * datasets.make_circles(noise=0.01, factor=0.4, **options)[0],
            "moons": lambda: 10 * datasets.make_moons(noise=0.01, **options)[0],
            "swiss-roll": lambda: datasets.make_swiss_roll(noise=0.1, **options)[0][:, [0, 2]],
        }
        return draw[self.shape]().astype(np.float32)
