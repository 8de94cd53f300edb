"""The record of a run: all that its pixels depend on, except the picture and the machine.

The page, the endpoints, the commands, the benchmark and the recipes in PNGs build it and read it;
`run.restore` takes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.linear import FILES, TASKS
from restoration.files import images, recipe
from restoration.files.errors import cut
from restoration.priors.diffusers_folder import digest
from restoration.priors.latent import LatentPrior
from restoration.solvers import SOLVERS, resolve_settings
from restoration.solvers.base import Solver

BLIND = "blind"  # the task of a run that was told none
PACKAGES = ("torch", "diffusers", "deepinv")  # those that decide the pixels


@dataclass(frozen=True)
class Run:
    """One run; ValueError where a blind solver is told a degradation, another is not, the seed is none, or
    the solver lacks a network for the prior.

    degradation: what is known of how the picture was made; None for a blind solver.
    prior: its name; what `to_recipe` writes is the name of the prior that was really there.
    seed: of all that is random, from 0 to 2⁶³-1.
    periodic: the picture was made by our own circular blur, not cut by a camera out of a larger scene.
    """

    solver: Solver
    degradation: LinearDegradation | None = None
    prior: str = "embedded"
    seed: int = 0
    periodic: bool = False

    def __post_init__(self) -> None:
        if (self.degradation is None) != self.solver.blind:
            does = "estimates the degradation itself" if self.solver.blind else "must be told the degradation"
            raise ValueError(f"{self.solver.title} {does}.")
        recipe.check_seed(self.seed)
        if sentence := self.solver.lacks(self.prior):
            raise ValueError(sentence)  # before anything is downloaded

    @property
    def factor(self) -> int:
        """Output side over input side."""
        return self.solver.factor(self.degradation)

    def enlarged(self, y: Tensor) -> Tensor:
        """The input y (1,3,h,w) as a picture of the result's size, (1,3,H,W) in [0,1], 8 bits."""
        if self.degradation is not None:
            return images.quantise(self.degradation.start(y))
        return images.quantise(images.enlarge(y, self.factor))

    def networks(self, prior_weights: str) -> dict[str, str]:
        """The digest of the files of every network that the run loads, by folder.

        prior_weights: that of "prior".
        """
        own = {
            folder.name: digest(sorted(folder.glob("*.safetensors")))
            for folder in self.solver.networks(self.prior, self.degradation)
        }
        return {"prior": prior_weights} | own

    def settings(self, prior_weights: str) -> dict[str, Any]:
        """What the recipes of all pictures of the run have in common, JSON-ready.

        prior_weights: the digest of the prior's files.
        """
        return {
            "solver": _name(SOLVERS, self.solver),
            "settings": dataclasses.asdict(self.solver),
            "task": _name(TASKS, self.degradation) if self.degradation else BLIND,
            "degradation": _without_paths(dataclasses.asdict(self.degradation)) if self.degradation else {},
            "periodic": self.periodic,
            "prior": self.prior,
            "weights": self.networks(prior_weights),
            "seed": self.seed,
            "versions": versions(),
        }

    def to_recipe(self, y: Tensor, prior: LatentPrior) -> dict[str, Any]:
        """The recipe, JSON-ready, of the run on y (1,3,h,w) with the loaded prior.

        The input is the hash of its 8-bit pixels; a prior of the Hub has the commit that it was read at.
        """
        where: dict[str, Any] = {"prior_commit": prior.commit} if prior.commit else {}
        where |= {"input_sha256": recipe.fingerprint(y), "machine": recipe.machine(prior.device.type)}
        return where | dataclasses.replace(self, prior=prior.name).settings(prior.weights)

    @classmethod
    def from_recipe(cls, source: Mapping[str, Any], **files: str) -> Run:
        """The run that a recipe describes.

        files: the paths of the kernel or mask, of which a recipe holds the hash.

        ValueError when this version has no such thing, or a file is not given.
        """
        try:
            name, values = resolve_settings(source["solver"], source["settings"])
            solver = SOLVERS[name](**values)
            values = source["degradation"] | files
            for name in FILES & values.keys() - files.keys():
                if values[name]:  # also no path that somebody wrote into a recipe is ever opened
                    again = f"on the command line, --set {name}=FILE, the one whose hash is"
                    raise ValueError(f"The recipe needs its {name} again: {again} {cut(str(values[name]))}.")
            degradation = None if source["task"] == BLIND else TASKS[source["task"]](**values)
            return cls(solver, degradation, source["prior"], source["seed"], source["periodic"])
        except (KeyError, TypeError) as error:
            why = cut(str(error))
            raise ValueError(f"The recipe is not of this version of the project: {why}.") from None

    def differences(self, source: Mapping[str, Any], y: Tensor, prior: LatentPrior) -> list[str]:
        """A sentence for each reason why the run on y (1,3,h,w) may not give the picture of its recipe."""
        networks = dataclasses.replace(self, prior=prior.name).networks(prior.weights)
        notes = [
            *self._other_files(source),
            recipe.other_weights(source, networks),
            recipe.other_input(source, y),
            recipe.other_machine(source, recipe.machine(prior.device.type)),
        ]
        return list(filter(None, notes))

    def _other_files(self, source: Mapping[str, Any]) -> list[str]:
        """One sentence for each kernel or mask that is not the one that the recipe was written with."""
        then = source.get("degradation", {})
        given = {name: getattr(self.degradation, name, "") for name in sorted(FILES & then.keys())}
        return [
            f"{images.plain_name(path)} is not the {name} that the recipe was written with: "
            "the result will be another."
            for name, path in given.items()
            if path and _digest(path) != then[name]
        ]


def versions() -> dict[str, str]:
    """Of the packages that decide the pixels."""
    return {package: importlib.metadata.version(package) for package in PACKAGES}


def _name(registry: Mapping[str, Any], instance: Any) -> str:
    return next(name for name, cls in registry.items() if cls is type(instance))


def _without_paths(values: dict[str, Any]) -> dict[str, Any]:
    """File knobs as hashes: a path means nothing elsewhere, and tells more of a machine than a PNG should."""
    return values | {name: _digest(values[name]) for name in FILES & values.keys() if values[name]}


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
