"""A report and an overview of a thousand items take the memory of those of a hundred."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from support.cli import REPO, environment

from sciinv import store
from sciinv.config import Data
from sciinv.steps.prepare import prepare
from sciinv.steps.summarize import summarize

pytestmark = pytest.mark.slow

DRAWS, SIZE, SHARD = 8, 128, (8, 100)
# What the jobs `report` and `overview` do, each in a process of its own.
PROGRAM = """
import sys
from pathlib import Path
from sciinv.steps import report as reporting
from sciinv.config import Operator

page, folder, operator = sys.argv[1:]
names = ("measurement.zarr", "posterior.zarr", "summary.zarr")
found = reporting.Stores(
    *[Path(folder) / n for n in names],
    quantities=Path(folder) / "quantities.json",
    operator=Operator(operator),
    items=1,
)
if page == "report":
    reporting.make_report(found, Path(folder) / "report")
else:
    reporting.make_overview([found], Path(folder) / "report.html", "all")
text = Path("/proc/self/status").read_text()
print(text.split("VmHWM:")[1].split()[0])
"""


def stores(folder: Path, items: int) -> None:
    """Write what a run of the closed-form problem leaves; its draws are noise."""
    tiny = REPO / "workflows/configs/tiny.py"
    data = Data(f"{tiny}:read", options={"items": items, "size": SIZE})
    prepare(data, folder / "measurement.zarr", items, say=lambda line: None)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((DRAWS, items, 1, SIZE, SIZE), dtype="f4")
    dataset = xr.Dataset(
        {
            "image": (("draw", "item", "channel", "y", "x"), values),
            "chi2": (("draw", "item"), np.ones((DRAWS, items), "f4")),
        }
    )
    store.write_posterior(dataset, folder / "posterior.zarr", shard=SHARD)
    summarize(folder / "posterior.zarr", folder / "summary.zarr", folder / "quantities.json")


def test_pages_of_ten_times_the_items_take_the_same_memory(tmp_path, show):
    peak = {}
    for items in (100, 1000):
        folder = tmp_path / str(items)
        folder.mkdir()
        stores(folder, items)
        for page in ("report", "overview"):
            operator = f"{REPO}/workflows/configs/tiny.py:Blur"
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, page, str(folder), operator],
                env=environment(),
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            peak[page, items] = int(done.stdout.split()[-1]) / 1024
    for page in ("report", "overview"):
        small, large = peak[page, 100], peak[page, 1000]
        show(f"peak memory {page}: {small:.0f} → {large:.0f} MiB, × {large / small:.3f}")
    for page in ("report", "overview"):
        assert peak[page, 1000] <= 1.1 * peak[page, 100]
