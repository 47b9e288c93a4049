"""Learned priors in safetensors files: weights, fitted widths, a JSON description; no pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from sciinv.errors import PriorError
from sciinv.priors.learned.network import HighSpec, LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.learned.specs import UPPER
from sciinv.priors.widths import FittedWidths
from sciinv.priors.widths.local import LocalWidths
from sciinv.priors.widths.moves import MovedEdges

FORMAT = 1
KEY = "sciinv"
T = TypeVar("T")


def save(prior: LearnedPrior, path: str | Path, *, storage: torch.dtype = torch.float32) -> None:
    """Write the prior; a file of that name is replaced only once the new one is whole.

    Widths are stored in units of u, like the weights; the description holds offset and scale.

    Args:
        prior: The prior.
        path: Where to write it.
        storage: Precision of the stored weights; float16 halves the file.
    """
    path = Path(path)
    tensors = {k: v.detach().to(storage) for k, v in prior.state_dict().items()}
    if prior.widths is not None:
        tensors |= prior.widths.to(1 / prior.scale).tensors()
    if prior.local is not None:
        tensors |= prior.local.tensors()
    if prior.moves is not None:
        tensors |= prior.moves.tensors()
    tensors = {k: v.cpu().contiguous().clone() for k, v in tensors.items()}
    header = {KEY: json.dumps({"format": FORMAT, **prior.describe()}, sort_keys=True)}
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(serialize(tensors, metadata=header))  # save_file would hide it from others
    part.replace(path)


# Networks are made with random weights before the file's: the caller's stream stays as it was.
@torch.random.fork_rng(devices=[])
def load(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LearnedPrior:
    """Return the prior stored at `path`.

    Args:
        path: A file written by `save`.
        device: Where the network shall live.
        dtype: Its weights and arithmetic; images keep their own dtype.

    Raises:
        PriorError: The file is missing, no safetensors file, cut short, of another format version,
            or its tensors are not those of the network it describes, or not finite.
    """
    path = Path(path)
    header, tensors = _read(path)
    if header.get("format") != FORMAT:
        raise PriorError(
            "The prior was written in another format version",
            where=path,
            expected=FORMAT,
            got=header.get("format"),
            remedy="load it with the version of sciinv that wrote it, or train it again",
        )
    prior = _build(path, header)
    wanted = prior.state_dict()  # network.… and, where there are such, high.…, middle.…, coarse.…
    widths = {k: v for k, v in tensors.items() if k.startswith("widths.")}
    found = {k: v for k, v in tensors.items() if k in wanted}
    local = {k: v for k, v in tensors.items() if k.startswith("local.")}
    moves = {k: v for k, v in tensors.items() if k.startswith("moves.")}
    stray = set(tensors) - set(widths) - set(local) - set(moves) - set(found)
    lacking = set(wanted) - set(found)
    if stray or lacking:
        raise PriorError(
            "The tensors in the file are not those of the network it describes",
            where=path,
            expected=f"{len(wanted)} tensors of the network",
            got="; ".join(
                f"{what}: {', '.join(sorted(names)[:4])}"
                for what, names in (("missing", lacking), ("unexpected", stray))
                if names
            ),
            remedy="take a whole copy of the file, or train the prior again",
        )
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise PriorError(
                "A tensor of the network has the wrong shape",
                where=f"{path}: {name}",
                expected=list(wanted[name].shape),
                got=list(value.shape),
            )
        if not bool(torch.isfinite(value).all()):
            raise PriorError("A tensor of the network is not finite", where=f"{path}: {name}")
    prior.load_state_dict({k: v.float() for k, v in found.items()})
    if widths:
        try:
            prior.widths = FittedWidths.of_tensors(widths).to(prior.scale)
        except KeyError as error:
            raise PriorError(
                "The fitted widths in the file are incomplete",
                where=path,
                expected="widths.sigma, widths.isotropic, widths.spectral, widths.frequency",
                got=", ".join(sorted(widths)),
            ) from error
    if local:
        prior.local = _fitted(
            LocalWidths.of_tensors, local, path, "The local widths in the file are incomplete",
            "the tensors that `sciinv fit-widths` writes",
            "run `sciinv fit-widths` on the file again",
        )  # fmt: skip
    if moves:
        prior.moves = _fitted(
            MovedEdges.of_tensors, moves, path,
            "The displacements of edges in the file are incomplete",
            "moves.sigma, moves.lengths, moves.sizes, moves.brightness",
            "take a whole copy of the file",
        )  # fmt: skip
    return prior.to(device=device, dtype=dtype, memory_format=torch.channels_last)


def _fitted(
    of: Callable[[dict[str, torch.Tensor]], T], tensors: dict[str, torch.Tensor], path: Path,
    told: str, expected: str, remedy: str,
) -> T:  # fmt: skip
    """Return what was fitted beside the network from its tensors in a file."""
    try:
        return of(tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise PriorError(told, where=path, expected=expected, got=error, remedy=remedy) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise PriorError(
            "There is no such prior file",
            where=path,
            remedy="give the path of a .safetensors file, e.g. data/priors/blackhole.safetensors",
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise PriorError(
            "The file is no readable safetensors file",
            where=path,
            expected="a whole file written by sciinv",
            got=error,
            remedy="the file may be cut short: fetch or train it again",
        ) from error
    if text is None:
        raise PriorError(
            "The safetensors file does not describe a prior",
            where=path,
            expected=f"a header entry '{KEY}'",
            got="none",
            remedy="write priors with sciinv.priors.learned.files.save",
        )
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise PriorError("The description in the file is no JSON", where=path, got=error) from error
    return header, tensors


def _build(path: Path, header: dict[str, Any]) -> LearnedPrior:
    header = dict(header)
    try:
        header.pop("format")
        network = dict(header.pop("network"))
        kind = (network.pop("class"), (edm := dict(header.pop("preconditioning"))).pop("kind"))
        if kind != ("deepinv.models.DRUNet", "edm"):
            raise PriorError(
                "The file describes a network that this version does not know",
                where=path,
                expected="deepinv.models.DRUNet with preconditioning 'edm'",
                got=" with ".join(map(str, kind)),
            )
        uppers: dict[str, Any] = {role: _upper(header.pop(role, None)) for role in UPPER}
        return LearnedPrior(
            _spec(network),
            Preconditioning(**edm),
            train_shape=header.pop("train_shape"),
            fixed_size=header.pop("fixed_size"),
            units=header.pop("units"),
            name=header.pop("name"),
            **uppers,
            inflate=float(header.pop("inflate", 1.0)),
            levels=int(header.pop("levels", LearnedPrior.levels)),
            local_inflate=float(header.pop("local_inflate", LearnedPrior.local_inflate)),
            metadata=header,
        )
    except (KeyError, TypeError) as error:
        raise PriorError(
            "The description in the file lacks an entry or has one too many",
            where=path,
            got=error,
            remedy="train the prior again",
        ) from error


def _upper(values: dict[str, Any] | None) -> HighSpec | None:
    if values is None:
        return None
    return HighSpec(_spec(values["network"]), float(values["above"]), float(values.get("alone", 0)))


def _spec(values: dict[str, Any]) -> NetworkSpec:
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return NetworkSpec(**lists)  # type: ignore[arg-type]  # a wrong one is refused
