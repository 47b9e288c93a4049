"""Is a source that is no ring recovered as none, from M87's own coverage, noise and gains?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from sciinv import metrics, operators, priors, readers, samplers
from sciinv.operators.parts.sky_transform import SkyTransform
from sciinv.quantities.ringfit import ring_parameters
from sciinv.readers import uvfits
from sciinv.readers.parts import vlbi

PIXEL, SIZE, FLUX = 2.0, 64, 0.6


def source(name: str) -> np.ndarray:
    """Return a disc of 56 µas or a double of 44 µas, of pixel sum 1."""
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL
    x, y = np.meshgrid(axis, axis)
    r = np.hypot(x, y)
    image = {
        "disc": (r < 28).astype(float),
        "double": np.exp(-((x - 20) ** 2 + (y - 9) ** 2) / 70)
        + 0.7 * np.exp(-((x + 20) ** 2 + (y + 9) ** 2) / 70),
    }[name]
    image = gaussian_filter(image, 4 / PIXEL)
    return image / image.sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["double", "disc"])
def test_draws_show_no_ring_where_there_is_none(name: str, repo: Path, tmp_path: Path) -> None:
    """Read and sampled as in the M87 example, with 40 levels; two minutes each on one core.

    One draw of eight may fall to the wrong side. 0.9 is about what eht-imaging reaches on such
    sources (docs/evidence/results.md).
    """
    day = repo / "data/eht/SR1_M87_2017_101_lo_hops_netcal_StokesI.uvfits"
    truth = source(name)
    raw = uvfits.read_table(day)
    sky = SkyTransform(torch.tensor(raw.u), torch.tensor(raw.v), SIZE, SIZE * PIXEL, FLUX, "square")
    vis = sky(torch.tensor(truth)[None, None])[0].numpy()
    rng = np.random.default_rng(7)
    seen = vlbi.simulate(raw, vis[0] + 1j * vis[1], rng, gain_sd=0.1, random_phases=True)
    uvfits.write(tmp_path / "seen.uvfits", seen.average_scans())
    data = readers.find("uvfits")(
        tmp_path / "seen.uvfits",
        kind="amplitudes",
        systematic_noise=0.02,
        gain_sd={"*": 0.1, "LM": 0.35},
    )
    physics, y = operators.from_measurement(data)
    prior = priors.load(repo / "data/priors/blackhole.safetensors")
    sampler = samplers.DAPS(prior, conditional="local", inflate=3, levels=40)
    draws = sampler.sample(y, physics, draws=8, seed=1)["image"].values[:, 0, 0]
    agree = ~ring_parameters(draws, PIXEL).found
    alike = [metrics.normalised_cross_correlation(d, truth, shift=True) for d in draws]
    assert not ring_parameters(truth, PIXEL).found
    assert agree.sum() >= 7, f"{int(agree.sum())} of 8"
    assert np.median(alike) > 0.9
