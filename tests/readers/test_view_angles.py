"""View angles: a range in words means the same in every reader, its end is left out."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sciinv import readers
from sciinv.errors import DataError
from sciinv.readers.parts.view_angles import degrees

HALF_DEGREES = [i / 2 for i in range(360)]


def scan(reader: str, folder: Path) -> Path:
    """Write 360 views of a disc for a reader, and return the path."""
    rng = np.random.default_rng(0)
    k = np.arange(32)
    centre = 16 + 4 * np.cos(np.deg2rad(HALF_DEGREES))[:, None]
    y = 0.06 * np.sqrt(np.clip(81 - (k - centre) ** 2, 0, None))
    counts = (100 + rng.poisson(20000 * np.exp(-y)))[:, None].astype("u2")
    flats = (100 + rng.poisson(20000, (10, 1, 32))).astype("u2")
    if reader == "projections":
        tifffile = pytest.importorskip("tifffile")
        for name, frames in (("scan", counts), ("flats", flats)):
            tifffile.imwrite(folder / f"{name}.tif", frames, photometric="minisblack")
        return folder / "scan.tif"
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        if reader == "sinogram":
            file["y"] = y + 0.01 * rng.standard_normal(y.shape)
        else:
            file["exchange/data"], file["exchange/data_white"] = counts, flats
    return path


@pytest.mark.parametrize("reader", ["sinogram", "dxchange", "projections"])
@pytest.mark.parametrize("angles", ["0:180:0.5", "0:180", "0:180:360", "file"])
def test_half_degrees_are_360_views_without_the_end(
    reader: str, angles: str, tmp_path: Path
) -> None:
    path = scan(reader, tmp_path)
    if angles == "file":
        angles = str(tmp_path / "angles.txt")
        Path(angles).write_text("\n".join(map(str, HALF_DEGREES)))
    options = {} if reader == "sinogram" else {"dark": 100}
    got = readers.find(reader)(path, angles=angles, **options)
    assert got["angles"].values.tolist() == HALF_DEGREES
    assert got.sizes["angle"] == 360


def test_every_reader_that_takes_view_angles_is_among_them() -> None:
    """The reader htc2022 has its angles in the file, and `angles` chooses a range of them."""
    import inspect

    taking = {
        name
        for name in readers.READERS
        if "str" in str(inspect.signature(readers.find(name)).parameters.get("angles", ""))
    }
    assert taking == {"sinogram", "dxchange", "projections"}


def test_rounding_of_a_step_neither_adds_an_angle_nor_drops_one() -> None:
    # 180 ÷ 0.1 is 1800 exactly; np.arange(0, 18, 0.1) and arange(0, 1.1, 0.1) err by rounding
    for end, step, views in ((180, 0.1, 1800), (1.1, 0.1, 11), (18, 0.1, 180), (360, 0.7, 515)):
        theta, _ = degrees(f"0:{end}:{step}", views, "scan", "degrees")
        assert len(theta) == views
        assert theta[-1] == pytest.approx(step * (views - 1), abs=1e-9)
        assert theta[-1] < end
    theta, _ = degrees("180:0:-0.5", 360, "scan")
    assert theta[0] == 180
    assert theta[-1] == 0.5


def test_a_view_at_the_end_is_told_how_to_be_written() -> None:
    with pytest.raises(DataError) as caught:
        degrees("0:180:0.5", 361, "scan")
    assert '"0:180.5:0.5"' in str(caught.value.remedy)
    theta, _ = degrees("0:180.5:0.5", 361, "scan")
    assert theta[-1] == 180


@pytest.mark.parametrize("angles", ["0:180:0", "0:180:-1", "0:180:nan", "a:b", "0:1:2:3", "x.txt"])
def test_ranges_that_cannot_be_are_told(angles: str) -> None:
    with pytest.raises(DataError, match="angles") as caught:
        degrees(angles, 360, "scan")
    assert caught.value.remedy
