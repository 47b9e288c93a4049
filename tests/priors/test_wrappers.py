"""Networks of others as priors: exact in every parametrisation, and a clear word on what is wrong.

The network of these tests is the closed-form denoiser of a stationary Gaussian, rewritten as what
each kind of network returns. Tolerances: float64 rounding, magnified by at most σ/σ_data.
"""

from __future__ import annotations

import json
import math
import pickle

import deepinv
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from sciinv import priors
from sciinv.calibration.benchmark.linear import Matrix
from sciinv.errors import PriorError
from sciinv.priors.wrapped import load as wrapper_files
from sciinv.priors.wrapped import prior as wrappers
from sciinv.samplers import DAPS

OFFSET, SCALE, SIDE = 3.0, 0.2, 8
CODE = '''
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    """Closed-form denoiser of N(mean, F^-1 power F), returned as F, D, epsilon, v or x0."""

    def __init__(self, gives, side=8, channels=1, twice=False, sigmas=None, root=0.5):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, side, side, dtype=torch.float64))
        self.register_buffer("power", torch.ones(side, side, dtype=torch.float64))
        self.gives, self.twice, self.root = gives, twice, root
        self.table = None if sigmas is None else np.log(np.asarray(sigmas))
        self.one = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x, level):
        s = level.to(x.dtype)
        if self.gives == "F":
            s = torch.exp(4 * level)
        if self.table is not None:
            table, t = torch.as_tensor(self.table), level.double()
            low = t.floor().long().clamp(max=len(table) - 2)
            s = torch.exp(table[low] + (t - low) * (table[low + 1] - table[low]))
        s = s.reshape(-1, 1, 1, 1)
        a = 1 / (1 + s**2).sqrt() if self.table is not None else torch.ones_like(s)
        if self.gives == "F":
            a = 1 / (s**2 + self.root**2).sqrt()
        u = x / a
        gain = self.power / (self.power + s**2)
        d = self.mean + torch.fft.ifft2(torch.fft.fft2(u - self.mean) * gain).real
        if self.gives == "F":
            skip = self.root**2 * a**2
            out = (d - skip * u) / (s * self.root * a)
        elif self.gives == "epsilon":
            out = (x - a * d) / (s * a)
        elif self.gives == "v":
            out = a * (x - a * d) / (s * a) - s * a * d
        else:
            out = d
        out = out * self.one
        return torch.cat([out, out.exp()], 1) if self.twice else out

class Wrong:
    pass
'''
SCHEDULES = [{"kind": "linear"}, {"kind": "scaled_linear", "steps": 500}, {"kind": "cosine"}]
CASES = [
    ({"kind": "denoiser", "sigma_min": 0.01, "sigma_max": 50}, "x0"),
    ({"kind": "edm"}, "F"),
    ({"kind": "edm", "sigma_data": 0.8}, "F"),
    ({"kind": "edm", "form": "D"}, "x0"),
    *(
        ({"kind": "ddpm", "prediction": p, "schedule": s, "timestep": "interpolated"}, p)
        for p in ("epsilon", "v", "x0")
        for s in SCHEDULES
    ),
]


@pytest.fixture
def gaussian():
    return made_gaussian(1)


def made_gaussian(channels):
    """The same Gaussian in units of u (mean, power) and as a prior in physical units."""
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(channels, SIDE, SIDE, generator=g, dtype=torch.float64)
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    power = 0.05 + torch.exp(-((f[:, None] ** 2 + f[None] ** 2) / 0.15**2))
    own = priors.Gaussian(OFFSET + SCALE * mean, power_spectrum=SCALE**2 * power, units="K")
    return {"mean": mean, "power": power}, own


@pytest.fixture
def written(tmp_path, gaussian):
    """Write class, weights and description; return the description's path."""

    def write(entries, gives="x0", arguments=None, tensors=None, name="prior.yaml"):
        (tmp_path / "net.py").write_text(CODE)
        state = {**gaussian[0], "one": torch.ones(1, dtype=torch.float64)} | (tensors or {})
        save_file(state, tmp_path / "w.safetensors")
        said = {"network": "net.py:Net", "weights": "w.safetensors", "offset": OFFSET}
        said |= {"scale": SCALE, "units": "K", "shape": [1, SIDE, SIDE], **entries}
        given = {"gives": gives, **(arguments or {})}
        if "schedule" in entries:
            table = wrappers.alphas_cumprod(**entries["schedule"])
            given["sigmas"] = np.sqrt((1 - table) / table).tolist()
        if "sigma_data" in entries:
            given["root"] = entries["sigma_data"]
        said.setdefault("arguments", given)
        path = tmp_path / name
        path.write_text(json.dumps(said) if name.endswith("json") else yaml.safe_dump(said))
        return path

    return write


def load(path):
    return priors.load(path, dtype=torch.float64, run=True)


def random_x(own, sigma, n=3):
    g = torch.Generator().manual_seed(1)
    return own.mean + sigma * torch.randn(n, *own.shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(("entries", "gives"), CASES)
def test_denoiser_equals_the_closed_form_in_every_parametrisation(
    written, gaussian, entries, gives
):
    prior, own = load(written(entries, gives)), gaussian[1]
    assert prior.units == "K"
    for sigma in np.geomspace(prior.sigma_min, min(prior.sigma_max, 8.0), 7):
        x = random_x(own, sigma)
        expected = own(x, float(sigma))
        torch.testing.assert_close(prior(x, float(sigma)), expected, rtol=1e-9, atol=1e-9)
    levels = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    torch.testing.assert_close(prior(x, levels), own(x, levels), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_nearest_timestep_is_exact_on_the_steps_and_whole_between_them(
    written, gaussian, prediction
):
    entries = {"kind": "ddpm", "prediction": prediction, "schedule": {"kind": "linear"}}
    prior, own = load(written(entries, prediction)), gaussian[1]
    process = prior.parametrisation
    for t in (0, 3, 400, 999):
        sigma = float(process.sigmas[t])
        x = random_x(own, sigma * SCALE)
        assert process.step_of(torch.tensor([sigma])).tolist() == [t]
        expected = own(x, sigma * SCALE)
        torch.testing.assert_close(prior(x, sigma * SCALE), expected, rtol=1e-8, atol=1e-8)
    between = process.step_of(
        torch.tensor([float(np.sqrt(np.prod(process.sigmas[400:402]))) * 1.001])
    )
    assert between.dtype == torch.int64
    assert between.item() == 401


def test_schedules_are_those_of_their_papers():
    linear = wrappers.alphas_cumprod("linear")
    assert linear[0] == pytest.approx(1 - 1e-4)
    logs = sum(math.log1p(-(1e-4 + (0.02 - 1e-4) * t / 999)) for t in range(1000))
    assert linear[-1] == pytest.approx(math.exp(logs), rel=1e-10)  # 4.04e-5
    cosine = wrappers.alphas_cumprod("cosine")
    f = np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert cosine[499] == pytest.approx(f, rel=1e-12)


def test_the_schedule_may_be_a_tensor_of_the_state_dict(written, gaussian):
    table = wrappers.alphas_cumprod("linear", 200)
    entries = {"kind": "ddpm", "alphas_cumprod": "alphas", "timestep": "interpolated"}
    sigmas = np.sqrt((1 - table) / table).tolist()
    path = written(entries, "epsilon", {"sigmas": sigmas}, {"alphas": torch.as_tensor(table)})
    x = random_x(gaussian[1], 0.1)
    torch.testing.assert_close(load(path)(x, 0.1), gaussian[1](x, 0.1), rtol=1e-9, atol=1e-9)


def test_a_network_that_also_returns_variances_gives_its_first_half(written, gaussian):
    entries = {"kind": "ddpm", "schedule": {"kind": "linear"}, "learned_variance": True}
    path = written(entries | {"timestep": "interpolated"}, "epsilon", {"twice": True})
    x = random_x(gaussian[1], 0.1)
    torch.testing.assert_close(load(path)(x, 0.1), gaussian[1](x, 0.1), rtol=1e-9, atol=1e-9)
    entries["learned_variance"] = False
    with pytest.raises(PriorError, match="shape of its input"):
        load(written(entries, "epsilon", {"twice": True}))(x, 0.1)


def test_two_channels_by_one_network_for_each_or_one_for_both(written, gaussian):
    entries = {"kind": "edm", "form": "D", "channels": 2, "shape": [2, SIDE, SIDE]}
    each = load(written(entries | {"per_channel": True}, "x0"))
    own = gaussian[1]
    x = torch.cat([random_x(own, 0.3), random_x(own, 1.0)], 1)
    level = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    expected = torch.cat([own(x[:, :1], level), own(x[:, 1:], level)], 1)
    torch.testing.assert_close(each(x, level), expected, rtol=1e-9, atol=1e-9)
    state, both = made_gaussian(2)
    path = written(entries, "x0", {"channels": 2}, state)
    torch.testing.assert_close(load(path)(x, 0.2), both(x, 0.2), rtol=1e-9, atol=1e-9)
    with pytest.raises(PriorError, match="does not fit the prior"):
        each(x[:, :1], 0.2)


@pytest.mark.parametrize(("entries", "gives"), [CASES[1], CASES[4], CASES[8]])
def test_tweedie_by_forward_derivatives_is_the_closed_form_covariance(
    written, gaussian, entries, gives
):
    prior, own = load(written(entries, gives)), gaussian[1]
    x = random_x(own, 0.2)
    v = random_x(own, 1.0)
    got = prior.conditional_covariance(x, 0.2)(v)
    expected = own.conditional_covariance(x, 0.2)(v)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_fitted_widths_reach_a_description_and_are_the_closed_form(written, gaussian, tmp_path):
    state, own = gaussian
    root = SCALE * state["power"].sqrt()
    g = torch.Generator().manual_seed(2)
    noise = torch.randn(200, *own.shape, generator=g, dtype=torch.float64)
    images = own.mean + torch.fft.ifft2(torch.fft.fft2(noise) * root).real
    plain = load(written(CASES[0][0]))
    with pytest.raises(PriorError, match="no fitted widths"):
        plain.isotropic_variance(images[:1], 0.1)
    widths = wrapper_files.fit_widths(plain, images, levels=9)
    wrapper_files.save_widths(widths, tmp_path / "widths.safetensors")
    prior = load(written({**CASES[0][0], "widths": "widths.safetensors", "inflate": 1.5}))
    assert prior.inflate == 1.5
    for sigma in widths.sigmas[1:-1].tolist():
        # 200 images of 64 pixels: the variance is known to √(2/12800) = 1.3 %; four sd allowed.
        got = float(prior.isotropic_variance(images[:1], sigma))
        assert got == pytest.approx(float(own.isotropic_variance(images[:1], sigma)), rel=0.05)
        assert prior.spectral_variance(images[:1], sigma).shape == (SIDE, SIDE)
    physics = Matrix(torch.eye(64, dtype=torch.float64)[::2], (1, SIDE, SIDE), 0.05)
    y = physics.A(images[:1])
    for conditional in ("spectral", "isotropic", "tweedie"):
        post = DAPS(prior, conditional=conditional, levels=4).sample(y, physics, draws=2)
        assert np.isfinite(post["image"].values).all()


def test_daps_with_a_wrapped_network_draws_what_it_draws_with_the_closed_form(written, gaussian):
    own = gaussian[1]
    prior = load(written({**CASES[1][0], "micro_batch": 8}, "F"))
    physics = Matrix(torch.eye(64, dtype=torch.float64)[::2], (1, SIDE, SIDE), 0.05)
    y = physics.A(random_x(own, 0.3, 1))
    ends = {"sigma_max": 4.0, "sigma_min": 0.02, "levels": 10, "conditional": "published"}
    got, expected = (DAPS(p, **ends).sample(y, physics, draws=8)["image"] for p in (prior, own))
    np.testing.assert_allclose(got.values, expected.values, rtol=1e-6, atol=1e-6)


def test_a_denoiser_of_deepinv_from_json_equals_itself(written, tmp_path):
    torch.manual_seed(0)
    size = {"in_channels": 1, "out_channels": 1, "nc": [4, 4, 4, 8], "nb": 1}
    network = deepinv.models.DRUNet(**size, pretrained=None).eval()
    torch.save(
        {"model": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "net.pt"
    )
    said = {"kind": "denoiser", "network": "deepinv.models:DRUNet", "arguments": size}
    said |= {"weights": "net.pt", "weights_key": "model", "prefix": "module.", "shape": None}
    path = written({**said, "sigma_min": 0.01, "sigma_max": 1.0}, name="prior.json")
    prior = priors.load(path, run=True)
    x = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        expected = OFFSET + SCALE * network((x - OFFSET) / SCALE, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(prior(x, 0.5 * SCALE), expected)
    v = torch.randn(2, 1, 16, 16)
    h = 1e-3
    got = prior.conditional_covariance(x, 0.5 * SCALE)(v) / (0.5 * SCALE) ** 2
    twice = prior.double()
    up, down = (twice(x.double() + k * h * v.double(), 0.5 * SCALE) for k in (1, -1))
    # The network is piecewise linear: beside rounding only the few pieces that end within h differ.
    torch.testing.assert_close(got.double(), (up - down) / (2 * h), rtol=0.02, atol=0.02)


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, level):
        q = self.weight * x.flatten(2).mT
        return torch.nn.functional.scaled_dot_product_attention(q, q, q).mT.reshape(x.shape)


def test_tweedie_works_through_fused_attention():
    prior = wrappers.WrappedPrior(
        Attention(), wrappers.Direct(), channels=4, sigma_min=0.1, sigma_max=1
    )
    x, v = torch.randn(2, 1, 4, 3, 3)
    got = prior.conditional_covariance(x, 0.5)(v) / 0.25
    up, down = (prior.double()((x + k * 1e-3 * v).double(), 0.5) for k in (1, -1))
    torch.testing.assert_close(got.double(), (up - down) / 2e-3, rtol=1e-3, atol=1e-3)


class Unsafe:
    def __reduce__(self):
        return (print, ("code that must not run",))


def test_no_object_is_unpickled(written, tmp_path, capsys):
    for name, content in (("a.pt", Unsafe()), ("b.pt", torch.nn.Linear(2, 2))):
        torch.save(content, tmp_path / name)
        with pytest.raises(PriorError, match="without running code"):
            load(written({**CASES[0][0], "weights": name}))
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(Unsafe()))
    with pytest.raises(PriorError, match="without running code"):
        load(written({**CASES[0][0], "weights": "c.pkl"}))
    (tmp_path / "d.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(PriorError, match="without running code"):
        load(written({**CASES[0][0], "weights": "d.safetensors"}))
    assert "must not run" not in capsys.readouterr().out


LINEAR = {"kind": "ddpm", "schedule": {"kind": "linear"}}
FAULTS = [
    ({"kind": "gan"}, "kind is not known"),
    ({"kind": "denoiser"}, "at which noise levels"),
    ({"kind": "denoiser", "sigma_min": 2, "sigma_max": 1}, "not possible"),
    ({"kind": "edm", "scale": 0}, "not possible"),
    ({"kind": "edm", "form": "G"}, "form is not known"),
    ({"kind": "edm", "prediction": "v"}, "no such entry"),
    ({"kind": "edm", "sigma_dat": 1}, "unknown entry"),
    ({"kind": "ddpm"}, "said once"),
    ({**LINEAR, "alphas_cumprod": [0.9, 0.1]}, "said once"),
    ({**LINEAR, "prediction": "score"}, "prediction is not known"),
    ({**LINEAR, "timestep": "floor"}, "timestep is not known"),
    ({**LINEAR, "sigma_max": 1000.0}, "beyond the network's steps"),
    ({"kind": "ddpm", "alphas_cumprod": [0.1, 0.9]}, "do not fall"),
    ({"kind": "ddpm", "alphas_cumprod": "betas"}, "no such tensor"),
    ({"kind": "edm", "network": "net.py:None_"}, "cannot be made"),
    ({"kind": "edm", "network": "net.py:Wrong", "arguments": {}}, "not a network"),
    ({"kind": "edm", "network": "no.such.module:Net"}, "cannot be made"),
    ({"kind": "edm", "network": "other.py:Net"}, "is not there"),
    ({"kind": "edm", "arguments": {"gives": "F", "colour": 1}}, "cannot be made"),
    ({"kind": "edm", "weights": "other.pt"}, "is not there"),
    ({"kind": "edm", "weights_key": "ema"}, "no such entry in the file"),
    ({"kind": "edm", "prefix": "module."}, "not that of the network"),
    ({"kind": "edm", "sha256": "00"}, "not those that the description"),
    ({"kind": "edm", "widths": "w.safetensors"}, "not hold fitted widths"),
    ({"kind": "edm", "arguments": {"gives": "F", "side": 9}}, "wrong shape"),
]


@pytest.mark.parametrize(("entries", "message"), FAULTS)
def test_what_is_wrong_in_a_description_is_said(written, entries, message):
    path = written(entries | {"arguments": {"gives": "x0"} | entries.get("arguments", {})})
    if entries.get("schedule"):
        path = written(entries)
    if entries.get("network") == "net.py:Wrong":
        path = written(entries)
    with pytest.raises(PriorError, match=message) as caught:
        load(path)
    assert caught.value.where is not None


def test_damaged_tensors_and_files_are_told(written, tmp_path):
    bad = torch.full((SIDE, SIDE), float("nan"), dtype=torch.float64)
    with pytest.raises(PriorError, match="not finite"):
        load(written(CASES[0][0], tensors={"power": bad}))
    with pytest.raises(PriorError, match="missing: none; unexpected: more"):
        load(written(CASES[0][0], tensors={"more": torch.ones(1)}))
    (tmp_path / "broken.yaml").write_text("kind: [")
    with pytest.raises(PriorError, match="cannot be read"):
        load(tmp_path / "broken.yaml")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(PriorError, match="lacks one"):
        load(tmp_path / "list.json")
    with pytest.raises(PriorError, match="no such prior file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(PriorError, match="positive, finite"):
        load(written(CASES[0][0]))(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64), 0.0)
