"""Station gains that nobody knows: V_k → g_a g_b* V_k, g = exp(α + iφ) per station and scan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.operators.base import Declared, Unknown, widths_of
from sciinv.operators.parts.sky_transform import refuse

KNOWN = ("gain_log_amplitude", "gain_phase")


class Gains:
    """Which gain corrupts which visibility, and the prior of the gains.

    A gain belongs to a station in a scan. Only differences of phase are seen, so the phase of the
    first station of each scan is 0. A phase φ ~ N(0, sd²) counts modulo 2π: with sd = 2 it is
    uniform to 14 %.

    Args:
        stations: The two stations of each visibility V_ab = ⟨E_a E_b*⟩, numbers or names, [N, 2].
        scans: The scan of each visibility, [N].
        sds: Prior standard deviation by name: "gain_log_amplitude" (of ln|g|, mean 0) and
            "gain_phase" (rad). A part that is left out is known.
        n: Number of visibilities.

    Raises:
        OperatorError: Names or arrays that do not fit.
    """

    def __init__(self, stations: Any, scans: Any, sds: Mapping[str, float] | None, n: int) -> None:
        sds = widths_of(sds, KNOWN, "visibilities")
        pairs = np.asarray([] if stations is None else stations)
        scan = np.asarray([] if scans is None else scans)
        if pairs.shape != (n, 2) or scan.shape != (n,):
            raise refuse(
                "The gains need the stations and the scan of each visibility",
                f"stations [{n}, 2] and scans [{n}]",
                f"{list(pairs.shape)} and {list(scan.shape)}",
                "give stations and scans, or leave unknowns out",
            )
        _, number = np.unique(pairs, return_inverse=True)
        _, scan = np.unique(scan, return_inverse=True)
        key = scan[:, None] * (number.max() + 1) + number.reshape(n, 2)
        of_gain, gain = np.unique(key, return_inverse=True)
        self.gain = torch.as_tensor(gain.reshape(n, 2))  # of each visibility's two stations
        self.count = len(of_gain)
        _, first = np.unique(of_gain // (number.max() + 1), return_index=True)
        free = np.ones(self.count, dtype=bool)
        free[first] = False  # the reference of each scan
        self.free = torch.as_tensor(np.flatnonzero(free))
        sizes = {"gain_log_amplitude": self.count, "gain_phase": len(self.free)}
        units = {"gain_log_amplitude": "1", "gain_phase": "rad"}
        self.unknowns = tuple(
            Unknown(name, 0.0, sds[name], units[name], dim=f"{name}_of", size=sizes[name],
                    period=2 * math.pi if name == "gain_phase" else 0.0)
            for name in KNOWN
            if name in sds
        )  # fmt: skip

    def factors(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary part of g_a g_b* of theta [B, P], each [B, N]."""
        sizes = [u.size or 1 for u in self.unknowns]
        parts = dict(zip((u.name for u in self.unknowns), theta.split(sizes, 1), strict=True))
        log = parts.get("gain_log_amplitude", theta.new_zeros(len(theta), self.count))
        phase = theta.new_zeros(len(theta), self.count)
        if "gain_phase" in parts:
            phase[:, self.free.to(theta.device)] = parts["gain_phase"]
        a, b = self.gain.to(theta.device).unbind(1)
        size, turn = (log[:, a] + log[:, b]).exp(), phase[:, a] - phase[:, b]
        return size * turn.cos(), size * turn.sin()


def pairs_of(stations: Any, n: int) -> Tensor:
    """Return the number of the pair of stations of each of n visibilities, whichever is first."""
    pairs = np.asarray([] if stations is None else stations)
    if pairs.shape != (n, 2):
        raise refuse(
            "Groups of noise by stations need the stations of each visibility",
            f"stations [{n}, 2]",
            list(pairs.shape),
            "give stations, or leave noise_by out",
        )
    _, number = np.unique(np.sort(pairs, axis=1), axis=0, return_inverse=True)
    return torch.as_tensor(number.reshape(n))


def corrupted(vis: Tensor, factors: tuple[Tensor, Tensor], *, transpose: bool = False) -> Tensor:
    """Return visibilities [..., B, 2, N] times complex factors [B, N], or their conjugates."""
    re, im = (f.to(vis) for f in factors)
    im = -im if transpose else im
    a, b = vis.unbind(-2)
    return torch.stack([a * re - b * im, a * im + b * re], -2)


class ArrayAt(Declared, LinearPhysics):
    """An array whose visibilities are multiplied by complex factors, per lane.

    Args:
        array: The visibilities of calibrated stations, a linear operator to [B, 2, N].
        factors: Real and imaginary part of the factors, each [B, N].
    """

    def __init__(self, array: Any, factors: tuple[Tensor, Tensor]) -> None:
        super().__init__(img_size=array.img_size, noise_model=array.noise_model)
        self.array, self.factors = array, factors
        self.image_spec, self.measurement_spec = array.image_spec, array.measurement_spec

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return g_a g_b* V."""
        return corrupted(self.array.A(x), self.factors)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return the transpose."""
        return self.array.A_adjoint(corrupted(y, self.factors, transpose=True))
