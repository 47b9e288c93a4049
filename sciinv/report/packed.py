"""Images as text in a page: quantised in known steps, deflated, base64.

A plane of 8 or 16 bits holds k = round((x − low) / step), so that a value read back is off by at
most step / 2. Along a row only differences are kept (modulo 2⁸ or 2¹⁶), which deflate packs
better; of 16 bits the high bytes come before the low ones.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(
    image: NDArray[Any], bits: int, limits: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return an image [y, x] as {"bits", "low", "step", "data"}.

    Args:
        image: Finite values, any unit.
        bits: 8 or 16.
        limits: Values at both ends, which must hold all values; those of the image if None.
    """
    values = np.asarray(image, dtype=np.float64)
    low, high = limits or (float(values.min()), float(values.max()))
    step = (high - low) / (2**bits - 1) or 1.0
    whole = np.clip(np.rint((values - low) / step), 0, 2**bits - 1).astype(f"<u{bits // 8}")
    turned = np.diff(whole, axis=1, prepend=np.zeros((len(whole), 1), whole.dtype))
    planes = turned.reshape(-1).view(np.uint8).reshape(-1, bits // 8)[:, ::-1]
    data = zlib.compress(np.ascontiguousarray(planes.T).tobytes(), 9)
    return {"bits": bits, "low": low, "step": step, "data": base64.b64encode(data).decode()}


def unpacked(part: dict[str, Any], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the image [y, x] of `packed`, as the page's script does."""
    size = part["bits"] // 8
    planes = np.frombuffer(zlib.decompress(base64.b64decode(part["data"])), np.uint8)
    low_first = np.ascontiguousarray(planes.reshape(size, -1)[::-1].T)
    turned = low_first.view(f"<u{size}").reshape(shape)
    whole = np.cumsum(turned, axis=1, dtype=turned.dtype)
    return part["low"] + part["step"] * whole.astype(np.float64)


def binned(image: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Return means over side × side pixels, [⌈y/side⌉, ⌈x/side⌉]; the last ones over what is left.

    Args:
        image: [y, x].
        side: 1 leaves the image as it is.
    """
    values = np.asarray(image, dtype=np.float64)
    if side == 1:
        return values
    rows, columns = (np.arange(0, n, side) for n in values.shape)
    total = np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1)
    sizes = [np.diff(np.append(a, n)) for a, n in zip((rows, columns), values.shape, strict=True)]
    return total / np.outer(*sizes)
