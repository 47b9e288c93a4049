"""The configuration of a run: typed, checked before the first job, and free of heavy imports.

A YAML file is checked twice: by the JSON schema in `workflows/schemas` (names, types, ranges) and
by `Config.of_mapping` (files, operators and readers that exist, settings of the chosen sampler).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sciinv.config.paths import is_remote, locate
from sciinv.registry import FILE_AND_NAME

# Parts of `display` that a summary depends on; the rest is the report's.
SUMMARY = ("transform", "quantiles", "thresholds", "align")
# The prior where none is named, by the channels of the image.
GENERIC = {1: "data/priors/generic.safetensors", 2: "data/priors/generic-complex.safetensors"}

# Formats of an export, and how their files end.
SUFFIXES = {
    "nifti": "nii",
    "fits": "fits",
    "tiff": "tif",
    "netcdf": "nc",
    "csv": "csv",
    "npy": "npy",
    "dicom": "dcm",
}


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
    """A prior: a file, one in closed form, or the generic one that ships.

    Attributes:
        path: A .safetensors file or the description of another network (.yaml), or None.
        kind: "file", "gaussian" or "generic".
        mean: Mean of every pixel, units of the image.
        sd: Standard deviation of every pixel, units of the image.
        length: Correlation length in pixels; 0 for white.
        network: The FILE.py:CLASS that a description names and that may therefore be run.
        scale: For kind generic, the size of a typical value of the object, units of the image;
            None takes it from the data (`sciinv.steps.generic`).
    """

    path: str | None = None
    kind: str = "file"
    mean: float = 0.0
    sd: float = 1.0
    length: float = 0.0
    network: str | None = None
    scale: float | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The prior's file, where it has one, and that of its network's class."""
        if self.kind == "generic":  # which of them is for the operator to say
            return tuple(GENERIC.values())
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
        domain: Quantities that are derived from every draw (`sciinv.quantities.measure`).
        reference: An image to compare with, or None.
        check_prior: Draws without a tenth of the data, in which the prior is checked; 0: no check.
        export: Formats in which mean and standard deviation are written beside the report.
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
    check_prior: int = 0
    export: tuple[str, ...] = ()

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
        """Whether settings are found before the first draw: the micro-batch, or κ."""
        return "auto" in (self.sampler.settings.get(k) for k in ("micro_batch", "inflate"))

    @property
    def exports(self) -> list[str]:
        """The files of the field that are asked for, below the problem's folder."""
        return [f"export/{name}.{SUFFIXES[name]}" for name in self.export]

    @property
    def prior_checks(self) -> list[str]:
        """The check of the prior, below the problem's folder, where it is asked for."""
        return ["check-prior.json"] if self.check_prior else []

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
