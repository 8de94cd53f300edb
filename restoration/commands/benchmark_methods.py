"""What a benchmark runs on each picture: a classical baseline or a solver."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from restoration.evaluation import metrics
from restoration.evaluation.published import Scores
from restoration.files import images
from restoration.priors.latent import load_prior
from restoration.record import Run
from restoration.run import restore, round_trip


class Outcome(NamedTuple):
    """image (1,3,H,W) in [0,1] in 8 bits, its scores, and the solver's own figures at its last step."""

    image: Tensor
    scores: Scores
    scalars: Scores


Method = Callable[
    [Tensor, Tensor], Outcome
]  # of an observation and its clean picture, which serves the scores alone


def classical(function: Callable[[Tensor], Tensor]) -> Method:
    """A baseline as a method of the benchmark."""

    def method(y: Tensor, clean: Tensor) -> Outcome:
        began = time.perf_counter()
        image = images.quantise(function(y))
        return Outcome(image, {"seconds": time.perf_counter() - began} | metrics.score(image, clean), {})

    return method


def solved(run: Run, args: argparse.Namespace) -> Method:
    """A solver as a method of the benchmark; its "ceiling" is the PSNR of the prior's round trip of the clean
    picture.

    With --enlarge n both work on pictures n times as large (Lanczos), and what comes out is reduced before it
    is scored.
    """
    if args.enlarge > 1 and run.degradation is not None:
        why = f"the degradation that {run.solver.title} is told is that of the picture as it is"
        raise ValueError(f"--enlarge {args.enlarge} is for blind solvers: {why}.")

    def method(y: Tensor, clean: Tensor) -> Outcome:
        def enlarged(x: Tensor) -> Tensor:
            return (
                x if args.enlarge == 1 else images.lanczos(x, *(args.enlarge * side for side in x.shape[-2:]))
            )

        def reduced(x: Tensor) -> Tensor:
            return x if args.enlarge == 1 else images.lanczos(x, clean.shape[-2], clean.shape[-1])

        prior, large, target = load_prior(run.prior), enlarged(y), enlarged(clean)
        result, scalars = None, {}
        for step in restore(large, run, prior):
            result, scalars = step.result, dict(step.scalars)
        assert result is not None  # the solver protocol: the last step carries it
        extra = metrics.Scores({"seconds": result.seconds})
        extra.add("ceiling", lambda: metrics.psnr(reduced(round_trip(prior, target)), clean))
        image = reduced(result.image)
        return Outcome(image, dict(result.scores) | metrics.score(image, clean) | extra, scalars)

    return method
