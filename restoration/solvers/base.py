"""What every solver shares: the step it yields and the class it extends."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Generator, Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blind import CORRUPTIONS
from restoration.degradations.linear import TASKS
from restoration.knobs import Checked
from restoration.priors.latent import LatentPrior
from restoration.priors.memory import Demand

Known = LinearDegradation | None  # what a solver is told of the damage: nothing where it is blind


@dataclass(frozen=True)
class Result:
    """The answer: image (1,3,H,W) in [0,1], already rounded to 8 bits, seconds, and the recipe that repeats
    it.

    judge: scores and warnings, asked once and when they are wanted, since they take a while and the picture
    is there.
    """

    image: Tensor
    seconds: float
    recipe: Mapping[str, Any]
    judge: Callable[[], tuple[Mapping[str, float], tuple[str, ...]]]

    @functools.cached_property
    def _judged(self) -> tuple[Mapping[str, float], tuple[str, ...]]:
        return self.judge()

    @property
    def scores(self) -> Mapping[str, float]:
        return self._judged[0]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user, of what was told about the damage and can hardly be."""
        return self._judged[1]


@dataclass(frozen=True)
class Step:
    """One iteration, detached. index runs from 1 to total; image only on the last one; result is added by
    run.restore.

    views: further pictures (1,3,·,·) in [0,1] by title, for the eye: what a method shows beside its estimate.
    """

    index: int
    total: int
    latent: Tensor
    note: str
    scalars: Mapping[str, float]
    image: Tensor | None = None
    views: Mapping[str, Tensor] = field(default_factory=dict)
    result: Result | None = None


Steps = Iterator[Step]


@dataclass(frozen=True)
class Solver(Checked, ABC):
    """A frozen dataclass of hyperparameters with one generator. The last step carries the image.

    What a subclass may set beside `title`, the name of the method on the page:
    paper: where it was published. purpose: what it is for, in one sentence without its full stop.
    blind: it takes no degradation (None); what it needs to know, such as its output scale, are fields of its
    own.
    colours: it may add colour to a black-and-white picture, which otherwise stays one.
    effort: so many times as long as one of RELD's fast form its iterations take, for forecasts before the
    first run.
    """

    title: ClassVar[str]
    paper: ClassVar[str] = ""
    purpose: ClassVar[str] = "Restore a damaged photograph"
    blind: ClassVar[bool] = False
    colours: ClassVar[bool] = False
    effort: ClassVar[float] = 1.0

    @property
    def differentiates(self) -> bool:
        """Whether `restore` takes the decoder's gradient, which is most of the memory that a large prior
        needs."""
        return True

    @property
    def own_bytes(self) -> tuple[float, float]:
        """Bytes per pixel of the result, and beside them per pixel of a tile where it works in tiles, that
        the method's own networks hold while they learn.
        """
        return 0.0, 0.0

    def demand(self, pixels: int) -> Demand:
        """What a run on results of so many pixels asks of any prior."""
        return Demand(pixels, self.differentiates, self.own_bytes)

    @property
    def batches(self) -> bool:
        """Whether `restore` takes several pictures of one size at once, with these settings."""
        return False

    @classmethod
    def damages(cls) -> tuple[str, ...]:
        """The names of the damages that the method is told, or is made for; `make_damage` takes each."""
        return tuple(CORRUPTIONS if cls.blind else TASKS)

    def factor(self, degradation: Known) -> int:
        """Output side over input side."""
        return degradation.factor if degradation else 1

    def enlarging(self, factor: int) -> Solver:
        """The same method with this factor, where a setting of its own decides that.

        Else the method as it is.
        """
        return self

    def networks(self, prior: str, degradation: Known) -> list[Path]:
        """The folders of the networks that a run loads beside those of the prior of this name."""
        return []

    def lacks(self, prior: str) -> str:
        """What these settings need and nobody has for the prior of this name, as a sentence; "" where nothing
        is missing. Known without the prior's weights.
        """
        return ""

    @abstractmethod
    def iterations(self, degradation: Known, pixels: float = 0) -> int:
        """About how many steps a run takes on a result of so many pixels, for estimates of its time."""

    @abstractmethod
    def restore(self, prior: LatentPrior, y: Tensor, degradation: Known, *, generator: Generator) -> Steps:
        """Yield `total` steps; never under a disabled gradient mode, since a consumer's thread would inherit
        it.

        A solver that `batches` also takes y (B,3,h,w): each row becomes what it would become alone with the
        same generator, so all get the same noise; a step's scalars are then of all rows together.
        """
