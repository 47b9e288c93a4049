"""The view angles of a scan: from numbers, a range in words or a file, to degrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

UNITS = {"degrees": 1.0, "radians": 180 / np.pi}


def degrees(
    angles: object, views: int, where: object, unit: str | None = None, *, stated: bool = False
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the view angles in degrees, [angle], and doubts.

    Args:
        angles: Numbers; or text: "FIRST:END", as many as there are views; "FIRST:END:N", N views,
            or N a step where that gives as many angles as views, always without END; or the path
            of a file of numbers (.npy, or text with one angle a line).
        views: Number of views.
        where: The file.
        unit: "degrees" or "radians"; None takes degrees, unless they look like radians.
        stated: Whether the file states the unit: a look is then a doubt, not an error.

    Raises:
        DataError: Not one finite angle a view, all the same, or a span of π or 2π.
    """
    if unit is not None and unit not in UNITS:
        raise DataError("There is no such unit of angles", where=where,
                        expected="degrees or radians", got=unit, remedy="choose one")  # fmt: skip
    theta = _numbers(angles, views, where)
    if theta.shape != (views,) or not np.isfinite(theta).all():
        raise DataError(
            "The view angles do not match the scan",
            where=where,
            expected=f"{views} finite angles, one a view",
            got=f"shape {list(theta.shape)}, {int((~np.isfinite(theta)).sum())} not finite",
            remedy=f"check the order of the axes; give `angles`, {views} angles for the views",
        )
    theta = theta * UNITS[unit or "degrees"]
    span = float(np.ptp(theta))
    if (views > 1 and span == 0) or float(np.abs(theta).max()) > 1e5:
        raise DataError(
            "The view angles cannot be",
            where=where,
            expected="degrees, that differ",
            got=f"{theta.min():g} to {theta.max():g} in {views} views",
            remedy="give `angles`, one for each view",
        )
    told = _radians(span, views)
    if told is None or unit == "degrees":
        return theta, []
    if stated or unit == "radians":
        return theta, [f"The angles, stated in {unit or 'degrees'}, {told}."]
    raise DataError(
        "The view angles look like radians",
        where=where,
        expected="degrees",
        got=f"{theta.min():.4g} to {theta.max():.4g} in {views} views, which {told}",
        remedy='give angle_unit="radians"; or "degrees", if they are',
    )


def _radians(span: float, views: int) -> str | None:
    whole = span * views / max(views - 1, 1)
    for name, turn in (("π", np.pi), ("2π", 2 * np.pi)):
        if views >= 8 and min(abs(span / turn - 1), abs(whole / turn - 1)) < 0.015:
            return f"span {name}"
    return None


def _numbers(angles: object, views: int, where: object) -> NDArray[np.float64]:
    remedy = "give one angle for each view"
    try:
        if isinstance(angles, str) and angles.count(":") == 1 and not Path(angles).is_file():
            angles = f"{angles}:{views}"
        if isinstance(angles, str) and angles.count(":") == 2:
            first, end, third = (float(p) for p in angles.split(":"))
            if third == views:
                return first + (end - first) * np.arange(views) / views
            steps = _in_steps(first, end, third)
            if len(steps) == views:
                return steps
            if len(steps) + 1 == views:  # the commonest slip: a view at END was taken too
                remedy = f'where the last view is at {end:g}, give "{first:g}:{end + third:g}:'
                remedy += f'{third:g}"'
            raise ValueError(f"{len(steps)} angles in steps of {third:g}, of {views} views")
        if isinstance(angles, str):
            angles = _of_file(Path(angles)) if Path(angles).is_file() else _of_text(angles)
        return np.asarray(angles, np.float64)
    except (TypeError, ValueError, OSError) as error:
        raise DataError(
            "The view angles cannot be understood",
            where=where,
            expected=f'{views} numbers, a file of them, "FIRST:END" or "FIRST:END:{views}" (END '
            "not included)",
            got=f"{str(angles)[:60]} ({error})",
            remedy=remedy,
        ) from error


def _in_steps(first: float, end: float, step: float) -> NDArray[np.float64]:
    """Return FIRST, FIRST + STEP, … without END; rounding neither adds an angle nor drops one."""
    if not step or not np.isfinite([first, end, step]).all():
        return np.empty(0)
    count = max(0, int(np.ceil((end - first) / step - 1e-6)))
    return np.asarray(first + step * np.arange(count), np.float64)


def _of_file(path: Path) -> NDArray[np.float64]:
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False), np.float64).ravel()
    lines = path.read_text(encoding="utf-8").splitlines()
    return _of_text(" ".join(line.split("#")[0] for line in lines))


def _of_text(text: str) -> NDArray[np.float64]:
    return np.array([float(p) for p in text.replace(",", " ").replace(";", " ").split()])
