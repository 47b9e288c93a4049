"""Which closure quantities an array measures at one time, and how their errors go together.

A triangle's closure phase is ψ = arg(V_12 V_23 V_31), a quadrangle's log closure amplitude is
ln(|V_12||V_34| / |V_13||V_24|); both are linear in the phases and log amplitudes of the
visibilities, and station gains drop out. Quantities that share a baseline are correlated.

Source: Blackburn et al. 2020, "Closure statistics in interferometric data", ApJ 894, 31.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

Count = Literal["minimal", "maximal", "reference"]
COUNTS = ("minimal", "maximal", "reference")


@dataclass(frozen=True)
class ClosureSet:
    """Closure quantities as indices into a list of visibilities.

    Attributes:
        triangles: Visibilities of the three legs 1→2, 2→3, 3→1, [T, 3].
        triangle_signs: +1 where the leg is V_ij as stored, −1 where it is its conjugate, [T, 3].
        triangle_stations: The stations 1, 2, 3, [T, 3].
        triangle_groups: The scan of each, [T].
        quadrangles: Visibilities 12 and 34 (numerator), 13 and 24 (denominator), [Q, 4].
        quadrangle_stations: The stations 1, 2, 3, 4, [Q, 4].
        quadrangle_groups: The scan of each, [Q].
        count: "minimal", "maximal" or "reference".
    """

    triangles: NDArray[np.int64]
    triangle_signs: NDArray[np.int64]
    triangle_stations: NDArray[np.int64]
    triangle_groups: NDArray[np.int64]
    quadrangles: NDArray[np.int64]
    quadrangle_stations: NDArray[np.int64]
    quadrangle_groups: NDArray[np.int64]
    count: str

    def phases(self, vis: NDArray) -> NDArray[np.float64]:
        """Return the closure phases of complex visibilities [N], in radians, (−π, π]."""
        total = (np.angle(vis)[self.triangles] * self.triangle_signs).sum(1)
        return np.angle(np.exp(1j * total))

    def log_amplitudes(self, vis: NDArray) -> NDArray[np.float64]:
        """Return the log closure amplitudes of complex visibilities [N]."""
        return np.log(np.abs(vis))[self.quadrangles] @ QUADRANGLE_SIGNS

    def cholesky(
        self, relative_error: NDArray, flux_sd: float, amplitudes: NDArray | None = None
    ) -> NDArray[np.float64]:
        """Return the lower Cholesky factor of the covariance of (phases, log amplitudes, flux).

        To first order the phase and the log amplitude of a visibility have the same variance
        (σ/|V|)² and are independent of each other, so the covariance is T D Tᵀ for the phases and
        Q D Qᵀ for the log amplitudes, scan by scan. A maximal set has no inverse covariance: its
        quantities are taken as independent, with their variances multiplied by the redundancy
        (number of quantities ÷ rank) of each scan, so that no information is counted twice.

        Args:
            relative_error: σ/|V| of each visibility, [N].
            flux_sd: Standard deviation of the total flux, Jy.
            amplitudes: In place of the log closure amplitudes, the factor of K log amplitudes
                (`amplitude_cholesky`), [K, K].

        Returns:
            L with L Lᵀ = covariance, [T + Q + 1, T + Q + 1] (K for Q with `amplitudes`).
        """
        t = len(self.triangles)
        q = len(self.quadrangles) if amplitudes is None else 0
        k = q if amplitudes is None else len(amplitudes)
        factor = np.zeros((t + k + 1, t + k + 1))
        variance = np.square(np.asarray(relative_error, float))
        if amplitudes is not None:
            factor[t:-1, t:-1] = amplitudes
        parts = (
            (0, self.triangles, self.triangle_signs, self.triangle_groups),
            (
                t,
                self.quadrangles[:q],
                np.tile(QUADRANGLE_SIGNS, (q, 1)),
                self.quadrangle_groups[:q],
            ),
        )
        for start, legs, signs, groups in parts:
            for rows in _by_group(groups):
                design, used = _design(legs[rows], signs[rows])
                covariance = (design * variance[used]) @ design.T
                if self.count == "maximal":
                    redundancy = len(rows) / np.linalg.matrix_rank(design)
                    block = np.diag(np.sqrt(np.diag(covariance) * redundancy))
                else:
                    block = np.linalg.cholesky(covariance)
                factor[np.ix_(start + rows, start + rows)] = block
        factor[-1, -1] = flux_sd
        return factor


QUADRANGLE_SIGNS = np.array([1, 1, -1, -1])


def closure_set(
    station1: NDArray,
    station2: NDArray,
    group: NDArray,
    relative_error: NDArray,
    count: Count = "minimal",
) -> ClosureSet:
    """Find the closure triangles and quadrangles of every scan.

    "minimal" takes the largest independent set, and of all these the one with the smallest
    variances (greedily from the most precise quantity on, which is optimal for a matroid), also
    where baselines are missing. "maximal" takes every triangle and all three log closure
    amplitudes of four stations. "reference" takes the triangles through the first station of the
    scan, as eht-imaging does for `count="min"`: all of them when no baseline is missing.

    Args:
        station1: Station number at the first end of each visibility, [N].
        station2: Station number at the second end, [N].
        group: Scan or time stamp of each visibility, [N].
        relative_error: σ/|V| of each visibility, [N]; orders the candidates.
        count: "minimal", "maximal" or "reference".

    Raises:
        DataError: A baseline occurs twice in a scan, or the count is not known.
    """
    if count not in COUNTS:
        raise DataError(
            "There is no closure set of this name",
            expected=", ".join(COUNTS),
            got=count,
            remedy="choose minimal, unless a peer's set must be matched",
        )
    variance = np.square(np.asarray(relative_error, float))
    triangles: list[tuple[int, ...]] = []
    quadrangles: list[tuple[int, ...]] = []
    for rows in _by_group(np.asarray(group)):
        edges = _edges(station1, station2, rows)
        stations = sorted({s for edge in edges for s in edge})
        for found, candidates in (
            (triangles, _triangles(edges, stations)),
            (quadrangles, _quadrangles(edges, stations)),
        ):
            if count == "reference":
                candidates = [c for c in candidates if stations[0] in c[2]]
            kept = candidates if count == "maximal" else _independent(candidates, variance)
            found.extend(
                (int(group[rows[0]]), *stations_, *legs, *signs) for legs, signs, stations_ in kept
            )
    t = np.array(triangles, int).reshape(-1, 10)
    q = np.array(quadrangles, int).reshape(-1, 13)
    return ClosureSet(
        triangles=t[:, 4:7],
        triangle_signs=t[:, 7:],
        triangle_stations=t[:, 1:4],
        triangle_groups=t[:, 0],
        quadrangles=q[:, 5:9],
        quadrangle_stations=q[:, 1:5],
        quadrangle_groups=q[:, 0],
        count=count,
    )


def amplitude_cholesky(
    station1: NDArray,
    station2: NDArray,
    group: NDArray,
    relative_error: NDArray,
    gain_sd: NDArray,
) -> NDArray[np.float64]:
    """Return the factor of the covariance of ln|V_ij|, station gains marginalised, [N, N].

    ln|V_ij| = ln|model| + g_i + g_j + noise with g_i ~ N(0, gain_sd_i²) of each station and scan:
    the covariance is (σ/|V|)² on the diagonal plus gain_sd_i² for baselines that share station i
    in a scan. Infinitely wide gains would leave the log closure amplitudes.

    Args:
        station1: Station number at the first end, [N].
        station2: Station number at the second end, [N].
        group: Scan of each, [N].
        relative_error: σ/|V| of each, [N].
        gain_sd: Standard deviation of ln|g| by station number, [S].
    """
    factor = np.zeros((len(group), len(group)))
    for rows in _by_group(np.asarray(group)):
        ends = np.zeros((len(rows), len(gain_sd)))
        ends[np.arange(len(rows)), station1[rows]] = 1.0
        ends[np.arange(len(rows)), station2[rows]] = 1.0
        covariance = (ends * np.square(gain_sd)) @ ends.T
        covariance += np.diag(np.square(relative_error[rows]))
        factor[np.ix_(rows, rows)] = np.linalg.cholesky(covariance)
    return factor


Candidate = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # legs, signs, stations


def _by_group(group: NDArray) -> Iterator[NDArray[np.int64]]:
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    return iter(np.split(order, cuts)) if len(order) else iter(())


def _edges(station1: NDArray, station2: NDArray, rows: NDArray) -> dict[tuple[int, int], int]:
    edges: dict[tuple[int, int], int] = {}
    for row in rows:
        pair = int(station1[row]), int(station2[row])
        if pair in edges or pair[::-1] in edges:
            raise DataError(
                "A baseline occurs twice in one scan",
                where=f"visibilities {edges.get(pair, edges.get(pair[::-1]))} and {row}",
                expected="one visibility per baseline and scan",
                got=f"stations {pair[0]} and {pair[1]} again",
                remedy="average over scans first, or give each integration its own group",
            )
        edges[pair] = int(row)
    return edges


def _leg(edges: dict[tuple[int, int], int], a: int, b: int) -> tuple[int, int] | None:
    if (a, b) in edges:
        return edges[a, b], 1
    if (b, a) in edges:
        return edges[b, a], -1
    return None


def _triangles(edges: dict[tuple[int, int], int], stations: list[int]) -> list[Candidate]:
    out: list[Candidate] = []
    for a, b, c in combinations(stations, 3):
        legs = [_leg(edges, *pair) for pair in ((a, b), (b, c), (c, a))]
        if all(leg is not None for leg in legs):
            rows, signs = zip(*legs, strict=True)  # type: ignore[arg-type]
            out.append((rows, signs, (a, b, c)))
    return out


def _quadrangles(edges: dict[tuple[int, int], int], stations: list[int]) -> list[Candidate]:
    out: list[Candidate] = []
    for a, b, c, d in combinations(stations, 4):
        # the three ways to pair four stations into (12)(34) over (13)(24)
        for s1, s2, s3, s4 in ((a, b, c, d), (a, b, d, c), (a, c, d, b)):
            legs = [_leg(edges, *pair) for pair in ((s1, s2), (s3, s4), (s1, s3), (s2, s4))]
            if all(leg is not None for leg in legs):
                rows = tuple(leg[0] for leg in legs if leg is not None)
                out.append((rows, tuple(QUADRANGLE_SIGNS), (s1, s2, s3, s4)))
    return out


def _independent(candidates: list[Candidate], variance: NDArray) -> list[Candidate]:
    """Keep the most precise candidates that are linearly independent, most precise first."""
    if not candidates:
        return []
    legs = np.array([c[0] for c in candidates])
    design, _ = _design(legs, np.array([c[1] for c in candidates]))
    rank = np.linalg.matrix_rank(design)
    basis = np.zeros((rank, design.shape[1]))
    kept: list[Candidate] = []
    for i in np.argsort(variance[legs].sum(1), kind="stable"):
        rest = design[i] - basis.T @ (basis @ design[i])
        norm = np.linalg.norm(rest)
        if norm > 1e-6:  # entries are 0 or ±1: independent rests are of order 1
            basis[len(kept)] = rest / norm
            kept.append(candidates[i])
            if len(kept) == rank:
                break
    return kept


def _design(legs: NDArray, signs: NDArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the matrix from visibilities to closures, [M, U], and the U visibilities used."""
    used, column = np.unique(legs, return_inverse=True)
    column = column.reshape(legs.shape)
    design = np.zeros((len(legs), len(used)))
    np.add.at(design, (np.arange(len(legs))[:, None], column), signs)
    return design, used
