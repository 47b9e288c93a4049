"""The sparse system matrix of a scan: line integrals of square pixels, and its exact transpose.

A pixel of side p, seen by a ray whose normal points at ψ = θ − γ and that passes its centre at the
distance s, is crossed over a length that is a trapezoid in s: with a = p|cos ψ|/2, b = p|sin ψ|/2
it is p²/(2 max(a, b)) for |s| ≤ |a − b| and falls linearly to 0 at |s| = a + b. Three models:

    line    that length at the centre of the detector element (Siddon, Med. Phys. 1985)
    strip   its mean over the element's width: what a detector of finite elements measures
    joseph  linear interpolation along rows or columns (Joseph, IEEE Trans. Med. Imaging 1982)

Symmetry makes the matrix small: turning the image by 90° is turning the view by 90°, and a
mirrored image is a mirrored view. Views are folded into one octant where the scan allows it, and
the folded matrix is applied to the turned and mirrored images as extra columns: 180 views over a
half-turn need 46. The stored matrix is read once for all columns, so that time hardly grows with
the batch until arithmetic binds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.parts.ct_geometry import Geometry
from sciinv.operators.parts.ct_products import Block
from sciinv.operators.parts.transposed import Linear

MODELS = ("strip", "line", "joseph")
_COLUMNS = 64  # right-hand sides per product: one row of them stays in the first-level cache

Element = tuple[int, bool]  # quarter turns, mirrored


def weights(geometry: Geometry, theta: float, model: str) -> sp.csr_array:
    """Return the weights of one view, float64, mm, [detector, rows · columns].

    Args:
        geometry: The scan; its own angles are not used.
        theta: View angle, rad.
        model: "strip", "line" or "joseph".
    """
    g, p, d = geometry, geometry.pixel_mm, geometry.detector_mm
    t, h = g.position(theta)
    fan = g.kind == "fan"
    reach = p if model == "joseph" else p / np.sqrt(2)
    side = d / 2 if model == "strip" else 0.0
    if fan:
        # In the frame of the source at the origin; the central ray is along `depth`.
        depth = h + float(g.source_origin_mm)  # type: ignore[arg-type]
        middle, half = np.arctan2(t, depth), np.arcsin(reach / np.hypot(t, depth))
        low = g.source_detector_mm * np.tan(middle - half)
        high = g.source_detector_mm * np.tan(middle + half)
    else:
        if model == "joseph":
            reach = p * max(abs(np.cos(theta)), abs(np.sin(theta)))
        else:
            reach = p * (abs(np.cos(theta)) + abs(np.sin(theta))) / 2
        low, high = t - reach, t + reach
    first = np.ceil((low - side - g.u[0]) / d - 1e-9).astype(np.int64)
    last = np.floor((high + side - g.u[0]) / d + 1e-9).astype(np.int64)
    k = first[:, None] + np.arange(int((last - first).max(initial=0)) + 1)
    u = g.u[0] + k * d

    def distance(u: np.ndarray) -> np.ndarray:
        if not fan:
            return u - t[:, None]
        # |(t, depth)| sin(ray − pixel), of the ray (u, D + R)
        across = u * depth[:, None] - g.source_detector_mm * t[:, None]
        return across / np.hypot(u, g.source_detector_mm)

    psi = theta - (np.arctan(u / g.source_detector_mm) if fan else np.zeros(1))
    a, b = np.abs(np.cos(psi)) * p / 2, np.abs(np.sin(psi)) * p / 2
    big, small = np.maximum(a, b), np.maximum(np.minimum(a, b), 1e-6 * p)
    top = p * p / (2 * big)
    if model == "line":
        w = top * np.clip((big + small - np.abs(distance(u))) / (2 * small), 0, 1)
    elif model == "joseph":
        w = top * np.clip(1 - np.abs(distance(u)) / (2 * big), 0, None)
    else:
        s0, s1 = distance(u - d / 2), distance(u + d / 2)
        w = (_primitive(s1, big, small, top) - _primitive(s0, big, small, top)) / (s1 - s0)
    keep = (w > 1e-12 * p) & (k >= 0) & (k < g.detectors) & (k <= last[:, None])
    indptr = np.concatenate([[0], np.cumsum(keep.sum(1))]).astype(np.int32)
    shape = (g.detectors, t.size)
    return sp.csc_array((w[keep], k[keep].astype(np.int32), indptr), shape=shape).tocsr()


def _primitive(s: np.ndarray, big: Any, small: Any, top: Any) -> np.ndarray:
    """Return ∫_0^s of the trapezoid."""
    r = np.minimum(np.abs(s), big + small)
    ramp = np.maximum(r - (big - small), 0)
    return top * np.sign(s) * (r - ramp * ramp / (4 * small))


@dataclass(frozen=True)
class Group:
    """Views that share a folded matrix.

    Attributes:
        theta: Folded view angles, rad, [canonical].
        elements: How the image is turned and mirrored for each of the group's columns.
        index: Place of each view in the list of distinct angles, [canonical, element].
    """

    theta: np.ndarray
    elements: tuple[Element, ...]
    index: np.ndarray


def fold(geometry: Geometry, angles: np.ndarray) -> list[Group]:
    """Fold distinct view angles (degrees) into groups that share a matrix.

    A quarter turn needs a square image; a mirror needs a parallel beam or a centred detector.
    """
    square = geometry.image_size[0] == geometry.image_size[1]
    mirror = geometry.kind == "parallel" or geometry.detector_offset_mm == 0
    step = 90.0 if square else 180.0
    turns = np.floor(angles / step + 0.5 + 1e-9)
    rest = angles - turns * step
    mirrored = (rest < -1e-9) if mirror else np.zeros(rest.shape, bool)
    rest = np.where(mirrored, -rest, rest)
    quarter = (turns * (step / 90)).astype(int) % 4
    members: dict[float, list[tuple[Element, int]]] = {}
    for i, key in enumerate(np.round(rest, 7)):
        element = (int(quarter[i]), bool(mirrored[i]))
        members.setdefault(float(key) + 0.0, []).append((element, i))
    groups: dict[tuple[Element, ...], list[tuple[float, list[int]]]] = {}
    for mine in members.values():
        if len(mine) == 1:  # nothing shared: keep the view as it is
            i = mine[0][1]
            groups.setdefault(((0, False),), []).append((float(angles[i]), [i]))
            continue
        mine.sort()
        elements = tuple(e for e, _ in mine)
        here = [i for _, i in mine]
        groups.setdefault(elements, []).append((float(rest[here[0]]), here))
    return [
        Group(
            np.deg2rad([angle for angle, _ in rows]), elements, np.array([i for _, i in rows], int)
        )
        for elements, rows in groups.items()
    ]


class Projector:
    """Products with the system matrix and its transpose, on images of any leading shape.

    The sums run in a fixed order, whatever the batch: the same input gives the same bits
    (`ct_products`).

    Memory: (value + 4 bytes) × non-zeros for Aᵀ, and as much for A where both are inside the limit
    and off the CPU; a folded view has about 2.3 non-zeros a pixel in the strip model when elements
    and pixels are of one size. `estimate_mb` counts Aᵀ for a scan. Beyond `memory_limit_mb` nothing
    is kept, and each product builds its weights block by block: the same numbers up to rounding,
    slower by the time of `weights`.

    Args:
        geometry: The scan.
        model: "strip", "line" or "joseph".
        memory_limit_mb: Most memory for stored matrices, MB, for one dtype.
    """

    def __init__(
        self, geometry: Geometry, model: str = "strip", memory_limit_mb: float = 2048.0
    ) -> None:
        if model not in MODELS:
            raise OperatorError(
                "There is no projection model of this name",
                expected=f"one of {', '.join(MODELS)}",
                got=repr(model),
                remedy="choose strip, unless another program's numbers are to be reproduced",
            )
        self.geometry, self.model, self.memory_limit_mb = geometry, model, memory_limit_mb
        turn = np.round(geometry.angles % 360.0, 7) % 360.0
        _, first, inverse = np.unique(turn, return_index=True, return_inverse=True)
        self._distinct = geometry.angles[first]
        # None where the views are already distinct and in rising order.
        plain = np.array_equal(inverse, np.arange(turn.size))
        self._inverse = None if plain else torch.from_numpy(inverse.ravel())
        # −θ is the view of the image mirrored in y; for a fan in x, on a mirrored detector.
        self._mirror = -2 if geometry.kind == "parallel" else -1
        self.groups = fold(geometry, self._distinct)
        order = np.concatenate([g.index.T.ravel() for g in self.groups])
        self._order = torch.from_numpy(order)
        self._place = torch.from_numpy(np.argsort(order))
        self._stored: dict[tuple[torch.dtype, torch.device], list[Block]] = {}
        size = self.estimate_mb()
        self.blockwise = size > memory_limit_mb
        self._both = 3 * size <= memory_limit_mb  # A beside Aᵀ, in double precision as well

    def estimate_mb(self, dtype: torch.dtype = torch.float32) -> float:
        """Return the memory of the stored matrix on a CPU, MB, estimated from about 8 views."""
        theta = np.concatenate([g.theta for g in self.groups])
        some = theta[:: max(1, theta.size // 8)]
        mean = float(np.mean([weights(self.geometry, t, self.model).nnz for t in some]))
        return (dtype.itemsize + 4) * mean * theta.size / 1e6

    def matrix(self) -> sp.csr_array:
        """Return the whole matrix, unfolded, float64, mm, [angle · detector, rows · columns]."""
        rows = [weights(self.geometry, t, self.model) for t in np.deg2rad(self.geometry.angles)]
        return sp.csr_array(sp.vstack(rows))

    def forward(self, x: Tensor) -> Tensor:
        """Return A x: line integrals, [..., angle, detector] of an image [..., rows, columns]."""
        y = self._by_parts(x.reshape(-1, *self.geometry.image_size), self._forward)
        if self._inverse is not None:
            y = y[:, self._inverse.to(x.device)]
        return y.reshape(*x.shape[:-2], len(self.geometry.angles), self.geometry.detectors)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return Aᵀ y: an image [..., rows, columns] of line integrals [..., angle, detector]."""
        flat = y.reshape(-1, len(self.geometry.angles), self.geometry.detectors)
        if self._inverse is not None:
            total = flat.new_zeros(flat.shape[0], len(self._distinct), self.geometry.detectors)
            # A view at a time: `index_add_` on several threads would not fix the order.
            for i, place in enumerate(self._inverse.tolist()):
                total[:, place] += flat[:, i]
            flat = total
        return self._by_parts(flat, self._adjoint).reshape(*y.shape[:-2], *self.geometry.image_size)

    def arranged(self, weights: Tensor) -> list[Tensor]:
        """Return w [angle, detector] as `normal` takes it: [element, view, detector] of each group.

        The weights of views that are there several times are summed.
        """
        k, kind = weights.shape[1], weights.dtype
        if self._inverse is not None:
            total = weights.new_zeros(len(self._distinct), k, dtype=torch.float64)
            for i, place in enumerate(self._inverse.tolist()):
                total[place] += weights[i]
            weights = total.to(kind)
        part, done, out = weights[self._order.to(weights.device)], 0, []
        for group in self.groups:
            m, c = len(group.elements), len(group.theta)
            view = part[done : done + m * c].reshape(m, c, k)
            if self.geometry.kind == "fan":
                pairs = zip(view, group.elements, strict=True)
                view = torch.stack([v.flip(1) if mirrored else v for v, (_, mirrored) in pairs])
            out.append(view)
            done += m * c
        return out

    def normal(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        """Return Aᵀ diag(w) A x, [..., rows, columns], with w as `arranged` gives it.

        Each stored block is read once for both products, and line integrals keep the matrix's order
        in between. Ten images at once take the time of `forward` and `adjoint` all the same.
        """
        flat = x.reshape(-1, *self.geometry.image_size)
        return self._by_parts(flat, lambda part: self._normal(part, weights)).reshape(x.shape)

    def normal_of(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """Return x ↦ Aᵀ diag(w) A x of w [angle, detector], which can be differentiated."""
        arranged = self.arranged(weights)

        def normal(x: Tensor) -> Tensor:
            return self.normal(x, arranged)

        return lambda x: Linear.apply(x, normal, normal)

    def _by_parts(self, batch: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the product of each part of a batch, the parts side by side on the CPU's threads.

        A result does not depend on its neighbours in the batch, nor on the number of threads.
        """
        threads = torch.get_num_threads() if batch.device.type == "cpu" else 1
        threads = 1 if self.blockwise else min(threads, batch.shape[0])
        most = max(1, _COLUMNS // max(len(g.elements) for g in self.groups))
        parts = batch.split(min(most, -(-batch.shape[0] // max(threads, 1))) or 1)
        if not self.blockwise:
            self._matrices(batch)
        if threads <= 1:
            return torch.cat([product(part) for part in parts])
        with ThreadPoolExecutor(threads) as pool:  # SciPy's products let go of Python's lock
            return torch.cat(list(pool.map(product, parts)))

    def _forward(self, x: Tensor) -> Tensor:
        """Return A x at the distinct angles, [batch, angle, detector]."""
        (h, w), k, n = self.geometry.image_size, self.geometry.detectors, x.shape[0]
        out, done = x.new_empty(len(self._order), k, n), 0
        for group, blocks in self._products(x):
            m, c = len(group.elements), len(group.theta)
            # [pixel, element · batch]: one row of the product reads whole cache lines
            columns = torch.stack([self._turn(x, e) for e in group.elements], -1)
            columns = columns.permute(1, 2, 3, 0).reshape(h * w, -1)
            view = out[done : done + m * c].view(m, c, k, n)
            for rows, matrix in blocks:
                view[:, rows] = matrix.forward(columns).view(-1, k, m, n).permute(2, 0, 1, 3)
            if self.geometry.kind == "fan":
                for i, (_, mirrored) in enumerate(group.elements):
                    if mirrored:
                        view[i] = view[i].flip(1)
            done += m * c
        self._place = self._place.to(x.device)  # once, not a copy with every product
        return out[self._place].permute(2, 0, 1).contiguous()

    def _adjoint(self, y: Tensor) -> Tensor:
        """Return Aᵀ y of the distinct angles, [batch, rows, columns]."""
        (h, w), k, n = self.geometry.image_size, self.geometry.detectors, y.shape[0]
        self._order = self._order.to(y.device)
        part = y[:, self._order].permute(1, 2, 0)
        x, done = y.new_zeros(n, h, w), 0
        for group, blocks in self._products(y):
            m, c = len(group.elements), len(group.theta)
            view = part[done : done + m * c].reshape(m, c, k, n)
            if self.geometry.kind == "fan":
                pairs = zip(view, group.elements, strict=True)
                view = torch.stack([v.flip(1) if mirrored else v for v, (_, mirrored) in pairs])
            image = y.new_zeros(h * w, m * n)
            for rows, matrix in blocks:
                columns = view[:, rows].permute(1, 2, 0, 3).reshape(-1, m * n)
                image += matrix.adjoint(columns)
            turned = image.view(h, w, m, n).permute(2, 3, 0, 1)
            for i, element in enumerate(group.elements):
                x += self._turn_back(turned[i], element)
            done += m * c
        return x

    def _normal(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        """Return Aᵀ diag(w) A x of the distinct angles, [batch, rows, columns]."""
        (h, w), n = self.geometry.image_size, x.shape[0]
        out = torch.zeros_like(x)
        for (group, blocks), wanted in zip(self._products(x), weights, strict=True):
            # an element at a time: the columns of all would leave the cache
            columns = [self._turn(x, e).permute(1, 2, 0).reshape(h * w, n) for e in group.elements]
            images = [torch.zeros_like(c) for c in columns]
            for rows, matrix in blocks:
                for image, column, of_data in zip(images, columns, wanted, strict=True):
                    line = matrix.forward(column) * of_data[rows].reshape(-1, 1)
                    image += matrix.adjoint(line)
            for image, element in zip(images, group.elements, strict=True):
                out += self._turn_back(image.view(h, w, n).permute(2, 0, 1), element)
        return out

    def _turn(self, x: Tensor, element: Element) -> Tensor:
        """Return the image [..., rows, columns] whose folded view is the wanted view of x."""
        quarter, mirrored = element
        x = torch.rot90(x, -quarter, (-2, -1)) if quarter else x
        return x.flip(self._mirror) if mirrored else x

    def _turn_back(self, x: Tensor, element: Element) -> Tensor:
        quarter, mirrored = element
        x = x.flip(self._mirror) if mirrored else x
        return torch.rot90(x, quarter, (-2, -1)) if quarter else x

    def _products(self, like: Tensor) -> Iterator[tuple[Group, Iterator[tuple[slice, Block]]]]:
        """Yield each group with its blocks: the folded views they are for, and their matrix."""
        if self.blockwise:
            for group in self.groups:
                yield group, self._build(group, like)
            return
        for group, matrix in zip(self.groups, self._matrices(like), strict=True):
            yield group, iter([(slice(0, len(group.theta)), matrix)])

    def _matrices(self, like: Tensor) -> list[Block]:
        key = (like.dtype, like.device)
        if key not in self._stored:
            self._stored[key] = [
                next(self._build(group, like, whole=True))[1] for group in self.groups
            ]
        return self._stored[key]

    def _build(
        self, group: Group, like: Tensor, whole: bool = False
    ) -> Iterator[tuple[slice, Block]]:
        size = len(group.theta)
        if not whole:
            per_view = self.estimate_mb(like.dtype) / sum(len(g.theta) for g in self.groups)
            size = int(np.clip(self.memory_limit_mb / (4 * per_view), 1, size))
        kind = np.float64 if like.dtype == torch.float64 else np.float32
        for start in range(0, len(group.theta), size):
            views = group.theta[start : start + size]
            rows = [weights(self.geometry, t, self.model).astype(kind) for t in views]
            a = sp.csr_array(sp.vstack(rows, format="csr"))
            del rows
            yield slice(start, start + len(views)), Block(a, like.device, whole and self._both)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stored": {}}  # built again in the other process

    def __deepcopy__(self, memo: dict[int, Any]) -> Projector:
        return self  # the matrices never change: copies of an operator share them
