"""The configuration of a run, read and checked before the first job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from sciinv.config.paths import is_remote, locate
from sciinv.config.schema import check_schema, read_yaml
from sciinv.config.spec import (
    Data,
    Operator,
    Prior,
    Problem,
    Run,
    Sampler,
    Shards,
    file_of,
)
from sciinv.errors import ConfigError
from sciinv.registry import close_to, find

# Settings of each sampler: the constructor's, which cannot be asked without importing torch.
SETTINGS: dict[str, tuple[str, ...]] = {
    "daps": (
        "conditional",
        "kernel",
        "levels",
        "sigma_max",
        "sigma_min",
        "sweeps",
        "rho",
        "inflate",
        "renoise",
        "micro_batch",
        "noise",
        "retries",
        "item_batch",
    ),
    "daps-published": (
        "levels",
        "ode_steps",
        "sigma_max",
        "sigma_min",
        "langevin_steps",
        "step_size",
        "tau",
        "half",
        "unit",
        "micro_batch",
    ),
    "dps": ("steps", "zeta", "scale", "micro_batch"),
    "langevin": ("iterations", "sigma", "micro_batch"),
    "particles": (
        "conditional",
        "levels",
        "sigma_max",
        "sigma_min",
        "group",
        "threshold",
        "points",
    ),
}


@dataclass(frozen=True)
class Config:
    """A run and its problems."""

    run: Run
    problems: Mapping[str, Problem]

    @property
    def folder(self) -> str:
        """Folder of the run."""
        return f"{self.run.results}/{self.run.name}"

    @classmethod
    def of_file(cls, path: str | Path) -> Config:
        """Read and check a YAML file.

        Raises:
            ConfigError: It is not there, is no YAML, or says something that is not allowed.
        """
        return cls.of_mapping(read_yaml(path), where=path)

    @classmethod
    def of_mapping(cls, raw: Mapping[str, Any], where: object = None) -> Config:
        """Check a mapping against the schema and against what exists; return it typed.

        Raises:
            ConfigError: The first thing that is not allowed, with the known names.
        """
        check_schema(raw, where)
        problems = {name: _problem(name, value) for name, value in raw["problems"].items()}
        for name, problem in problems.items():
            _check(problem, f"problems.{name}")
        return cls(Run(**raw["run"]), problems)

    def gpus_to_check(self, name: str) -> int:
        """Return the GPUs that a problem's check asks for: those of a job, to probe its memory."""
        return self.run.gpus if self.problem(name).probes else 0

    def problem(self, name: str) -> Problem:
        """Return the problem of this name."""
        return find("problem", name, self.problems)


def _problem(name: str, raw: Mapping[str, Any]) -> Problem:
    values = dict(raw)
    data = dict(values.pop("data"))
    if isinstance(data.get("path"), list):
        data["path"] = tuple(data["path"])
    prior = values.pop("prior", {"kind": "generic"})
    sampler = dict(values.pop("sampler", {}))
    return Problem(
        name=name,
        title=values.pop("title", name),
        data=Data(**data),
        operator=Operator(**values.pop("operator", {})),
        prior=Prior(path=prior) if isinstance(prior, str) else Prior(**prior),
        sampler=Sampler(sampler.pop("kind", "daps"), sampler),
        shards=Shards(**values.pop("shards", {})),
        domain=tuple(values.pop("domain", ())),
        export=tuple(values.pop("export", ())),
        **values,
    )


def _check(problem: Problem, where: str) -> None:
    """Raise `ConfigError` for what the schema cannot see: files, names, the sampler's settings."""
    from sciinv.operators import REGISTRY
    from sciinv.readers import READERS

    _check_name(problem.data.reader, (*READERS, "store"), f"{where}.data.reader", "FUNCTION")
    if problem.operator.name is not None:
        _check_name(problem.operator.name, REGISTRY, f"{where}.operator.name", "CLASS")
    if not file_of(problem.data.reader) and problem.data.path is None:
        raise ConfigError(
            "The reader needs the path of the raw data",
            where=f"{where}.data",
            expected="path: one file, or a list of files",
            got=f"reader {problem.data.reader} without a path",
            remedy="add the path",
        )
    _check_prior(problem.prior, f"{where}.prior")
    _check_display(problem.display, f"{where}.display")
    places = [(f"{where}.data.path", p) for p in problem.data.paths]
    places += [(f"{where}.data.reader", p) for p in file_of(problem.data.reader)]
    places += [(f"{where}.operator.name", p) for p in problem.operator.files]
    places += [(f"{where}.prior", p) for p in problem.prior.files]
    places += [
        (f"{where}.reference", p) for p in ([problem.reference] if problem.reference else [])
    ]
    for key, path in places:
        if not is_remote(path):
            locate(path, key)
        elif problem.data.reader != "store" or path not in problem.data.paths:
            raise ConfigError(
                "Only a measurement store is read from a URL",
                where=key,
                expected="a local file, or data: {reader: store, path: URL}",
                got=path,
                remedy="copy the file to a local disk first",
            )
    allowed = SETTINGS[problem.sampler.kind]
    for key in problem.sampler.settings:
        if key not in allowed:
            raise ConfigError(
                f"The sampler {problem.sampler.kind} has no such setting",
                where=f"{where}.sampler",
                expected=", ".join(allowed),
                got=key,
                remedy=close_to(key, allowed) or "remove it, or choose the sampler that has it",
            )


def _check_name(name: str, known: Any, where: str, what: str) -> None:
    if name not in known and not file_of(name):
        raise ConfigError(
            "This name is not known",
            where=where,
            expected=f"one of {', '.join(sorted(known))}, or FILE.py:{what}",
            got=name,
            remedy=close_to(name, known) or f"name a known one, or the file and {what} of your own",
        )


def _check_display(display: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` for NaN, which a schema takes for a number."""
    for key, values in display.items():
        numbers = values if isinstance(values, list) else [values]
        if any(isinstance(v, float) and isnan(v) for v in numbers):
            raise ConfigError(
                "A number of the display is none",
                where=f"{where}.{key}",
                expected="numbers",
                got=values,
                remedy="leave NaN out",
            )


def _check_prior(prior: Prior, where: str) -> None:
    if prior.scale is not None and prior.kind != "generic":
        raise ConfigError(
            "Only the generic prior has no scale of its own",
            where=f"{where}.scale",
            expected="scale for kind generic alone",
            got=f"kind: {prior.kind}",
            remedy="leave scale out",
        )
    if (prior.kind == "file") != bool(prior.path) or (prior.network and not prior.path):
        raise ConfigError(
            "The prior is a file, in closed form, or the generic one",
            where=where,
            expected="{kind: file, path: FILE}, {kind: gaussian, mean: …, sd: …, length: …}, or "
            "{kind: generic}",
            got=f"kind: {prior.kind}, path: {prior.path}, network: {prior.network}",
            remedy="give path (and network) for kind file only",
        )
    if prior.network and not file_of(prior.network):
        raise ConfigError(
            "The network of a prior is named by its file and class",
            where=f"{where}.network",
            expected="FILE.py:CLASS, as the prior's description names it",
            got=prior.network,
            remedy="append a colon and the name of the class",
        )
