"""Parameters drawn with the image integrated out, against the exact marginal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.toys import Matrix

from sciinv import conditionals, likelihoods, priors, samplers
from sciinv.kernels import collapsed, rows
from sciinv.kernels.marginal import Marginal
from sciinv.kernels.unknowns import Unknowns
from sciinv.noise import scaled
from sciinv.operators.base import Unknown
from sciinv.operators.interferometry import Visibilities
from sciinv.problem import Problem
from sciinv.seeds import Streams

SIZE, SD = 8, 0.005
A, B = np.triu_indices(4, 1)


def array(**sds):
    """Four stations, one scan: 12 real data, 4 ln|g| and 3 phases."""
    place = 3e9 * np.array([0.1 + 0.2j, -0.8 + 0.1j, 0.4 - 0.9j, 0.7 + 0.6j])
    uv = place[A] - place[B]
    return Visibilities(
        uv.real, uv.imag, SD, SIZE, 100.0, unknowns=sds, stations=np.stack([A, B], 1),
        scans=np.zeros(len(A)),
    )  # fmt: skip


def sky():
    """A blob of 1 Jy with fluctuations of 40 %."""
    axis = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    blob = torch.exp(-(x**2 + y**2) / (2 * 1.5**2))
    mean = (blob / blob.sum()).flatten()
    place = torch.stack([x.flatten(), y.flatten()], 1)
    near = torch.exp(-torch.cdist(place, place).square() / (2 * 1.0**2))
    cov = 0.16 * mean[:, None] * near * mean + 1e-8 * torch.eye(SIZE**2)
    return priors.Gaussian(mean.float().reshape(1, SIZE, SIZE), covariance=cov.float()), mean, cov


def measured(physics, prior, seed):
    g = torch.Generator().manual_seed(seed)
    x0 = prior.sample(Streams.of_seed(seed, 1), torch.zeros(1))
    sds = torch.cat([torch.full((u.size,), u.sd) for u in physics.unknowns])
    theta = sds * torch.randn(1, len(sds), generator=g)
    u = physics.at(theta).A(x0)
    return u + SD * torch.randn(u.shape, generator=g), theta.double(), sds.double()


def exact(physics, y, mean, cov, sds):
    """Return θ [n, P] ↦ −log p(θ | y) by the covariance of the data written out, float64."""
    eye = torch.eye(SIZE**2).double().reshape(-1, 1, SIZE, SIZE)

    def value(theta):
        out = []
        for t in theta:
            a = physics.at(t.expand(len(eye), -1)).A(eye).flatten(1).mT
            k = a @ cov @ a.mT + SD**2 * torch.eye(len(a)).double()
            law = torch.distributions.MultivariateNormal(a @ mean, k)
            out.append(-law.log_prob(y.double().flatten()) + 0.5 * (t / sds).square().sum())
        return torch.stack(out)

    return value


def target(physics, prior, y, lanes, noise=None):
    like = torch.zeros(lanes, 1, SIZE, SIZE)
    likelihood = likelihoods.of(physics, 0, 1)
    problem = Problem.of(y[:1], physics, likelihood, like)
    at = Unknowns.start(problem.with_data(y.expand(lanes, *y.shape[1:])), "fixed", like)
    assert at.rows is not None
    # so high a noise level that x_t tells nothing: p(x0 | x_t) is the prior
    moments = conditionals.build("auto", prior)(1e4 * torch.ones_like(like), 1e6, None)
    law = likelihood if noise is None else scaled(likelihood, noise)
    return Marginal(at.rows, moments, at.nominal.y, law, at.prior()), at


def test_energy_slope_and_information_are_those_of_the_written_out_marginal():
    physics = array(gain_log_amplitude=0.2, gain_phase=0.5)
    prior, mean, cov = sky()
    y, theta, sds = measured(physics, prior, 3)
    there = theta + 0.3 * sds * torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    value = exact(physics, y, mean, cov, sds)
    made, at = target(physics, prior, y, 4)
    assert len(at.rows.q) == 12
    assert at.rows.smooth
    expected = value(there)
    with torch.no_grad():
        found = made.energy(there)
        again, slope = made.slope(there)
    # up to a constant; images and prior are float32, squared residuals up to 1e4
    assert (found - expected).std() < 1e-4 * expected.abs().max()
    assert torch.allclose(found, again)
    step = 1e-5 * torch.eye(7).double()
    by_hand = torch.stack([(value(there + s) - value(there - s)) / 2e-5 for s in step], 1)
    assert torch.allclose(slope, by_hand, rtol=1e-3, atol=1e-3 * float(by_hand.abs().max()))
    at.rows.smooth = False  # derivatives by differences
    with torch.no_grad():
        assert torch.allclose(made.slope(there)[1], slope, rtol=1e-3, atol=1e-3 * slope.abs().max())
        f = made.information(there)
    eye = torch.eye(SIZE**2).double().reshape(-1, 1, SIZE, SIZE)

    def law(t):
        a = physics.at(t.expand(len(eye), -1)).A(eye).flatten(1).mT
        return a @ mean, a @ cov @ a.mT + SD**2 * torch.eye(len(a)).double()

    for lane in range(4):
        _, k = law(there[lane])
        dmu, dk = torch.func.jacfwd(law)(there[lane])
        inverse = torch.linalg.inv(k)
        x = torch.einsum("ab,bcp->acp", inverse, dk)
        known = dmu.mT @ inverse @ dmu + 0.5 * torch.einsum("abi,baj->ij", x, x)
        known = known + torch.diag(sds**-2)
        assert torch.allclose(f[lane], known, rtol=1e-3, atol=1e-3 * float(known.abs().max()))


def test_a_scale_of_the_noise_per_lane_and_raised_noise_are_the_same_thing():
    physics = array(gain_log_amplitude=0.2)
    prior, *_ = sky()
    y, theta, _ = measured(physics, prior, 3)
    with torch.no_grad():
        scale = torch.tensor([1.0, 3.0]).double()
        each = target(physics, prior, y, 2, scale)[0].energy(theta.expand(2, -1))
        raised = target(physics, prior, y, 2)[0].energy(theta.expand(2, -1), scale.square())
    # K is scaled by T: log |K| / 2 differs by 12 log s
    assert torch.allclose(each + 12 * scale.log(), raised, rtol=1e-6)


@pytest.mark.parametrize(("phase", "seed"), [(0.3, 5), (2.0, 6)])
def test_gains_with_the_image_unknown_have_the_exact_posterior(phase, seed):
    physics = array(gain_log_amplitude=0.2, gain_phase=phase)
    prior, mean, cov = sky()
    y, theta, sds = measured(physics, prior, seed)
    draws = 200
    post = samplers.DAPS(prior, levels=4, micro_batch=100).sample(y, physics, draws=draws, seed=1)
    assert "integrated out" in post.attrs["unknowns_drawn"]
    found = np.concatenate([post[u.name].values[:, 0] for u in physics.unknowns], 1)
    # the reference: the written-out marginal, weights of draws around its mode
    value = exact(physics, y, mean, cov, sds)
    mode = theta[0].clone()
    for _ in range(30):
        leaf = mode.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(value(leaf[None])[0], leaf)
        h = torch.autograd.functional.hessian(lambda t: value(t[None])[0], mode)
        values, vectors = torch.linalg.eigh(h)
        step = vectors @ ((vectors.mT @ g) / values.abs().clamp_min(1.0))
        mode = mode - step * min(1.0, 0.5 / float(step.abs().max()))
    factor = torch.linalg.cholesky(h)
    z = 1.15 * torch.randn(3000, 7, generator=torch.Generator().manual_seed(2)).double()
    tried = mode + torch.linalg.solve_triangular(factor.mT, z.mT, upper=True).mT
    w = (-value(tried) + 0.5 * (z / 1.15).square().sum(1)).softmax(0)
    assert float(1 / w.square().sum()) > 600  # of 3000: the reference itself is good to 4 %
    m = (w[:, None] * tried).sum(0)
    sd = (w[:, None] * (tried - m).square()).sum(0).sqrt()
    apart = found - m.numpy()
    apart[:, 4:] -= 2 * math.pi * np.round(apart[:, 4:] / (2 * math.pi))  # phases count modulo 2π
    # 4.5 standard errors of 200 draws, and that of the reference
    assert np.abs(apart.mean(0) / sd.numpy()).max() < 4.5 / math.sqrt(draws) + 0.12
    assert np.abs(apart.std(0) / sd.numpy() - 1).max() < 5 / math.sqrt(2 * draws) + 0.05
    # phases are handed out within half a turn of the prior's mean
    assert np.abs(found[:, 4:]).max() <= math.pi + 1e-6
    assert post["gain_phase"].attrs["period"] == pytest.approx(2 * math.pi)


def test_whole_periods_are_drawn_from_the_prior():
    lanes = 4000
    prior = torch.tensor([0.5]).double(), torch.tensor([4.0]).double()
    at = Unknowns(
        None, (1, 1, 1), (Unknown("phase", 0.5, 4.0, period=2 * math.pi),),
        torch.full((lanes, 1), 100.0).double(), (), None, None,
    )  # fmt: skip
    found = collapsed._turned(at, Streams.of_seed(0, lanes))[:, 0]
    turn = ((found - 100.0) / (2 * math.pi)).round()
    assert torch.allclose(100.0 + 2 * math.pi * turn, found)
    every = torch.arange(-40, 20).double()
    p = (-0.5 * ((100.0 + 2 * math.pi * every - prior[0]) / prior[1]).square()).softmax(0)
    share = torch.stack([(turn == k).double().mean() for k in every])
    # 4.5 standard errors of 4,000 draws
    assert ((share - p).abs() < 4.5 * (p * (1 - p) / lanes).sqrt() + 1e-3).all()


class Sliding(Matrix):
    """y = M x, the image moved by θ first: other sides of it are seen as θ changes."""

    unknowns = (Unknown("shift", 0.0, 1.0),)

    def at(self, theta):
        return _Slid(self, theta)


class _Slid(Matrix):
    def __init__(self, base, theta):
        super().__init__(base.matrix, base.img_size, SD)
        self.theta = theta

    def _moved(self, x, sign):
        f = torch.fft.rfftfreq(x.shape[-1], dtype=x.dtype)
        turn = torch.exp(2j * math.pi * sign * self.theta.to(x).reshape(-1, 1, 1, 1) * f)
        return torch.fft.irfft(torch.fft.rfft(x) * turn, n=x.shape[-1])

    def A(self, x, **kwargs):
        return super().A(self._moved(x, 1))

    def A_adjoint(self, y, **kwargs):
        return self._moved(super().A_adjoint(y), -1)


def test_where_the_rows_move_all_pixels_are_taken_if_they_are_few(monkeypatch):
    physics = Sliding(
        torch.randn(3, 33, generator=torch.Generator().manual_seed(1)), (1, 1, 33), SD
    )
    y = torch.zeros(1, 3)
    prior = torch.zeros(1).double(), torch.ones(1).double()
    assert len(rows.span(physics, y, (1, 1, 33), prior)) == 33
    monkeypatch.setattr(rows, "PIXELS", 10)
    assert rows.span(physics, y, (1, 1, 33), prior) is None


def test_how_parameters_are_drawn_is_said():
    prior = priors.Gaussian(torch.zeros(1, 1, 33), covariance=torch.eye(33))
    physics = Sliding(
        torch.randn(3, 33, generator=torch.Generator().manual_seed(1)), (1, 1, 33), SD
    )
    said = samplers.DAPS(prior, levels=2).sample(torch.zeros(1, 3), physics).attrs
    assert said["unknowns_drawn"].startswith("with the image integrated out, as 3 data")
    many = Sliding(torch.randn(300, 33), (1, 1, 33), SD)
    said = samplers.DAPS(prior, levels=2).sample(torch.zeros(1, 300), many).attrs
    assert "300 data are more than 256" in said["unknowns_drawn"]
    known = Matrix(torch.randn(3, 33), (1, 1, 33), SD)
    assert "unknowns_drawn" not in samplers.DAPS(prior, levels=2).sample(y3(), known).attrs


def y3():
    return torch.zeros(1, 3)
