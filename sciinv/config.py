"""The configuration of a run: typed, checked before the first job, and free of heavy imports.

A YAML file is checked twice: by the JSON schema in `workflows/schemas` (names, types, ranges) and
by `Config.of_mapping` (files, operators and readers that exist, settings of the chosen sampler).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sciinv.config_schema import check_schema, close_to, read_yaml
from sciinv.errors import ConfigError
from sciinv.places import is_remote, locate

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
# Parts of `display` that a summary depends on; the rest is the report's.
SUMMARY = ("transform", "quantiles", "thresholds", "align")
FILE_AND_NAME = re.compile(r"^(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)$")


@dataclass(frozen=True)
class Run:
    """The run as a whole.

    Attributes:
        name: Folder of the run below `results`.
        seed: Seed of every random stream.
        results: Folder of all runs.
        device: "cpu" or "cuda".
        dask: Address of a dask scheduler for the summaries, or None.
        memory_mb: MiB that draws and maps may take in a summary; None for its own choice.
    """

    name: str
    seed: int = 0
    results: str = "results"
    device: str = "cpu"
    dask: str | None = None
    memory_mb: int | None = None

    @property
    def gpus(self) -> int:
        """GPUs that one sampling job asks for."""
        return int(self.device == "cuda")


@dataclass(frozen=True)
class Data:
    """Raw data and their reader.

    Attributes:
        reader: Name of a module of `sciinv.readers`, "store", or "FILE.py:FUNCTION".
        path: The raw data; None where the reader needs none.
        options: Arguments of the reader.
    """

    reader: str
    path: str | tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths."""
        return (self.path,) if isinstance(self.path, str) else tuple(self.path or ())

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the measurement depends on, the reader's own among them."""
        return (*self.paths, *file_of(self.reader))


@dataclass(frozen=True)
class Operator:
    """A forward operator.

    Attributes:
        name: Registry name or "FILE.py:CLASS"; None for the measurement's own.
        params: Constructor parameters that replace those of the measurement store.
    """

    name: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """The operator's file, where it has one of its own."""
        return file_of(self.name or "")


@dataclass(frozen=True)
class Prior:
    """A prior: a file, or one in closed form.

    Attributes:
        path: A .safetensors file or the description of another network (.yaml), or None.
        kind: "file" or "gaussian".
        mean: Mean of every pixel, units of the image.
        sd: Standard deviation of every pixel, units of the image.
        length: Correlation length in pixels; 0 for white.
        network: The FILE.py:CLASS that a description names and that may therefore be run.
    """

    path: str | None = None
    kind: str = "file"
    mean: float = 0.0
    sd: float = 1.0
    length: float = 0.0
    network: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The prior's file, where it has one, and that of its network's class."""
        return ((self.path,) if self.path else ()) + file_of(self.network or "")


@dataclass(frozen=True)
class Sampler:
    """A sampler and its settings.

    Attributes:
        kind: "daps", "daps-published" (the released code's setting), "dps", "langevin" or
            "particles".
        settings: Its constructor's arguments.
    """

    kind: str = "daps"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shards:
    """What one job samples: so many draws of so many items."""

    draws: int = 16
    items: int = 1


@dataclass(frozen=True)
class Problem:
    """A measurement, its operator, a prior, and what is asked of them.

    Attributes:
        name: Folder of the problem.
        title: Heading of its report.
        data: Raw data.
        operator: Forward operator.
        prior: Prior.
        sampler: Sampler.
        draws: Posterior draws per item.
        items: Items of the measurement that are sampled, from the first.
        shards: Draws and items of one job.
        display: How images are shown.
        domain: Quantities of the field that are derived from every draw (`sciinv.domain`).
        reference: An image to compare with, or None.
    """

    name: str
    data: Data
    prior: Prior
    sampler: Sampler
    draws: int
    title: str = ""
    operator: Operator = Operator()
    items: int = 1
    shards: Shards = Shards()
    display: Mapping[str, Any] = field(default_factory=dict)
    domain: tuple[str, ...] = ()
    reference: str | None = None

    def blocks(self) -> list[tuple[str, str]]:
        """Return the jobs as (items, draws), each "first-end" with the end left out."""
        items = list(_blocks(self.items, self.shards.items))
        draws = list(_blocks(self.draws, self.shards.draws))
        return [(i, d) for i in items for d in draws]

    def inputs(self, *parts: str) -> list[str]:
        """Return the files that parts of the problem name, as found."""
        named: list[str] = []
        for part in parts:
            value = getattr(self, part)
            named += [value] if isinstance(value, str) else getattr(value, "files", ())
        return [str(locate(p)) for p in named if not is_remote(p)]

    @property
    def probes(self) -> bool:
        """Whether the micro-batch shall be found by a probe of the memory."""
        return self.sampler.settings.get("micro_batch") == "auto"

    def checked(self) -> dict[str, Any]:
        """Return what the check before the first draw depends on."""
        return self.facts("operator", "prior", *(["sampler"] if self.probes else []))

    def summary(self) -> dict[str, Any]:
        """Return what the summary depends on."""
        wanted = {k: v for k, v in self.display.items() if k in SUMMARY}
        return {"display": _sorted(wanted), "domain": list(self.domain)}

    def facts(self, *names: str) -> dict[str, Any]:
        """Return parts of the problem as plain values: what a job depends on.

        Keys are sorted: Snakemake takes another order for another value, and repeats the job.
        """
        plain = asdict(self)
        return {name: _sorted(plain[name]) for name in names}


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
        if name not in self.problems:
            raise ConfigError(
                "There is no problem of this name",
                expected=", ".join(self.problems),
                got=name,
                remedy=close_to(name, self.problems) or "name one of the configuration's problems",
            )
        return self.problems[name]


def block(text: str) -> range:
    """Return the numbers of a block "first-end", the end left out."""
    first, _, end = text.partition("-")
    return range(int(first), int(end))


def file_of(name: str) -> tuple[str, ...]:
    """Return (FILE.py,) of "FILE.py:NAME", or ()."""
    match = FILE_AND_NAME.match(name)
    return (match["file"],) if match else ()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _sorted(value[k]) for k in sorted(value)}
    return [_sorted(v) for v in value] if isinstance(value, list | tuple) else value


def _blocks(count: int, size: int) -> Iterator[str]:
    for first in range(0, count, size):
        yield f"{first}-{min(first + size, count)}"


def _problem(name: str, raw: Mapping[str, Any]) -> Problem:
    values = dict(raw)
    data = dict(values.pop("data"))
    if isinstance(data.get("path"), list):
        data["path"] = tuple(data["path"])
    prior = values.pop("prior")
    sampler = dict(values.pop("sampler"))
    return Problem(
        name=name,
        title=values.pop("title", name),
        data=Data(**data),
        operator=Operator(**values.pop("operator", {})),
        prior=Prior(path=prior) if isinstance(prior, str) else Prior(**prior),
        sampler=Sampler(sampler.pop("kind", "daps"), sampler),
        shards=Shards(**values.pop("shards", {})),
        domain=tuple(values.pop("domain", ())),
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


def _check_prior(prior: Prior, where: str) -> None:
    if (prior.kind == "file") != bool(prior.path) or (prior.network and not prior.path):
        raise ConfigError(
            "The prior is either a file or in closed form",
            where=where,
            expected="{kind: file, path: FILE}, or {kind: gaussian, mean: …, sd: …, length: …}",
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


def _check_name(name: str, known: Any, where: str, what: str) -> None:
    if name not in known and not file_of(name):
        raise ConfigError(
            "This name is not known",
            where=where,
            expected=f"one of {', '.join(sorted(known))}, or FILE.py:{what}",
            got=name,
            remedy=close_to(name, known) or f"name a known one, or the file and {what} of your own",
        )
