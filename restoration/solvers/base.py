"""What every solver shares: the step it yields and the protocol it follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from restoration.degradations.linear import LinearDegradation
from restoration.priors.latent import LatentPrior


@dataclass(frozen=True)
class Result:
    """The answer: image (1,3,H,W) in [0,1] already rounded to 8 bits, scores, seconds, and the recipe that repeats it.

    warnings: sentences for the user, of what was told about the damage and can hardly be.
    """

    image: Tensor
    scores: Mapping[str, float]
    seconds: float
    recipe: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One iteration, detached. index runs from 1 to total; image only on the last one; result is added by run.restore.

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


class Solver(Protocol):
    """A dataclass of hyperparameters with one generator. The last step carries the image.

    blind: the method takes no degradation (None); what it needs to know, such as its output scale, are fields of its own.
    colours: it may add colour to a black-and-white picture, which otherwise stays one.
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    blind: ClassVar[bool]
    colours: ClassVar[bool]

    @property
    def batches(self) -> bool:
        """Whether `restore` takes several pictures of one size at once, with these settings."""
        ...

    def factor(self, degradation: LinearDegradation | None) -> int:
        """Output side over input side."""
        ...

    def iterations(self, degradation: LinearDegradation | None) -> int:
        """About how many steps a run takes, for estimates of its time."""
        ...

    def restore(self, prior: LatentPrior, y: Tensor, degradation: LinearDegradation | None, *, generator: torch.Generator) -> Iterator[Step]:
        """Yield `total` steps; never under a disabled gradient mode, since a consumer's thread would inherit it.

        A solver that `batches` also takes y (B,3,h,w): each row becomes what it would become alone with the same generator, so all get
        the same noise; a step's scalars are then of all rows together.
        """
        ...
