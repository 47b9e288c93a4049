"""Samplers of deepinv, azula and CUQIpy for the benchmark, each by its library's own code.

    pip install azula
    sciinv benchmark --group mixture --sampler docs/studies/foreign_samplers.py:azula_mmps
    python docs/studies/foreign_samplers.py PROBLEMS DRAWS [NAME …]
    pip install -e . cuqipy    # in an environment of its own, for cuqipy_nuts and cuqipy_mala:
                               # it holds NumPy at 2.2, above which its NUTS ends in a TypeError

The second prints the table of docs/evidence/benchmark.md: every function below and
`samplers.DAPS(prior)` on mixtures of 6 Gaussians in 8 dimensions with noise 0.05 and 0.3. Settings
are the libraries' defaults; what they leave open is the same for all: 256 steps, noise from the
prior's largest to its smallest, and Langevin steps at half of what is stable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

STEPS = 256
CHAIN = 2000  # iterations of a Langevin chain


def _denoiser(prior: Any) -> Any:
    """Return a prior as a denoiser in double precision, whatever precision it is called in."""
    from deepinv.models.base import Denoiser

    class Wrapped(Denoiser):
        def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
            sigma = torch.as_tensor(sigma).double()
            return prior(x.double(), sigma.flatten() if sigma.ndim else sigma).to(x)

    return Wrapped()


def _sd(physics: Any) -> float:
    return float(physics.noise_model.sigma)


def _start(physics: Any, draws: int, seed: int) -> tuple[int, ...]:
    torch.manual_seed(seed)
    return (draws, *physics.img_size)


def _posterior_diffusion(
    fidelity: Any, prior: Any, physics: Any, y: Tensor, draws: int, seed: int
) -> Tensor:
    """Run deepinv's reverse SDE with a data-fidelity term, variance exploding."""
    from deepinv.sampling import EulerSolver, PosteriorDiffusion, VarianceExplodingDiffusion

    shape = _start(physics, draws, seed)
    rng = torch.Generator().manual_seed(seed)
    sde = VarianceExplodingDiffusion(
        sigma_min=float(prior.sigma_min), sigma_max=float(prior.sigma_max), alpha=1.0
    )
    times = torch.linspace(1, 0.001, STEPS, dtype=torch.float64)
    model = PosteriorDiffusion(
        data_fidelity=fidelity,
        denoiser=_denoiser(prior),
        sde=sde,
        solver=EulerSolver(timesteps=times, rng=rng),
        minus_one_one=False,
    )
    many = y.expand(draws, *y.shape[1:])
    return model(many, physics, x_init=shape, seed=seed)


def deepinv_dps(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Diffusion posterior sampling (Chung et al. 2023)."""
    from deepinv.sampling import DPSDataFidelity

    return _posterior_diffusion(DPSDataFidelity(), prior, physics, y, draws, seed)


def deepinv_pigdm(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Pseudo-inverse guidance (Song et al. 2023)."""
    from deepinv.sampling.noisy_datafidelity import PiGDMDataFidelity

    return _posterior_diffusion(PiGDMDataFidelity(), prior, physics, y, draws, seed)


def deepinv_moments(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Moment matching (Rozet et al. 2024)."""
    from deepinv.sampling.noisy_datafidelity import MomentMatchingDataFidelity

    return _posterior_diffusion(MomentMatchingDataFidelity(), prior, physics, y, draws, seed)


def deepinv_ddrm(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Denoising diffusion restoration (Kawar et al. 2022), from the operator's own SVD."""
    from deepinv.physics import DecomposablePhysics, GaussianNoise
    from deepinv.sampling import DDRM

    shape = _start(physics, draws, seed)
    size = int(np.prod(shape[1:]))
    eye = torch.eye(size, dtype=y.dtype).reshape(size, *shape[1:])
    rows = physics.A(eye).reshape(size, -1).mT
    u, s, full = torch.linalg.svd(rows, full_matrices=True)
    u = u[:, : len(s)]
    mask = torch.zeros(1, *shape[1:], dtype=y.dtype)
    mask.view(-1)[: len(s)] = s

    def pad(r: Tensor) -> Tensor:
        out = r.new_zeros(len(r), size)
        out[:, : len(s)] = r.flatten(1) @ u
        return out.reshape(-1, *shape[1:])

    svd = DecomposablePhysics(
        U=lambda v: v.flatten(1)[:, : len(s)] @ u.mT,
        U_adjoint=pad,
        V=lambda v: (v.flatten(1).to(full) @ full).reshape(v.shape),
        V_adjoint=lambda v: (v.flatten(1).to(full) @ full.mT).reshape(v.shape),
        mask=mask,
        noise_model=GaussianNoise(_sd(physics)),
    )
    sigmas = np.geomspace(float(prior.sigma_max), float(prior.sigma_min), STEPS)
    model = DDRM(_denoiser(prior), sigmas=sigmas)
    return model(y.expand(draws, *y.shape[1:]).clone(), svd, seed=seed + 1)


def _langevin(
    kind: str, prior: Any, physics: Any, y: Tensor, draws: int, seed: int, width: float = 0.1
) -> Tensor:
    """Run deepinv's Langevin chains under the score of the prior at noise `width`."""
    from deepinv.optim import ScorePrior
    from deepinv.optim.data_fidelity import L2
    from deepinv.sampling import ULA, SKRock

    shape = _start(physics, draws, seed)
    start = torch.randn(shape, dtype=y.dtype)
    sd = _sd(physics)
    norm = float(physics.compute_sqnorm(start[:1], verbose=False))
    curvature = norm / sd**2 + 1 / width**2
    common = {
        "prior": ScorePrior(_denoiser(prior)),
        "data_fidelity": L2(sigma=sd),
        "sigma": width,
        "alpha": 1.0,
        "clip": None,
        "save_chain": True,
        "thinning": 1,
        "burnin_ratio": 0.99,
    }
    if kind == "ula":
        chain = ULA(step_size=0.5 / curvature, max_iter=CHAIN, **common)
    else:
        chain = SKRock(step_size=0.5 * 0.99 * 10**2 / curvature, max_iter=CHAIN // 10,
                       inner_iter=10, **common)  # fmt: skip
    chain(y.expand(draws, *y.shape[1:]), physics, x_init=start, seed=seed)
    last = chain.get_chain()[-1]
    return last["x"] if isinstance(last, dict) else last


def deepinv_ula(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Unadjusted Langevin under the denoiser's score (Laumont et al. 2022)."""
    return _langevin("ula", prior, physics, y, draws, seed)


def deepinv_skrock(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Stochastic Runge–Kutta–Chebyshev steps (Pereyra et al. 2020)."""
    return _langevin("skrock", prior, physics, y, draws, seed)


def _azula(prior: Any) -> Any:
    """Return a prior as a denoiser of azula's, variance exploding."""
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VESchedule

    class Wrapped(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = VESchedule(float(prior.sigma_min), float(prior.sigma_max))

        def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> Any:
            return DiracPosterior(prior(x_t, self.schedule(t)[1]))

    return Wrapped()


def _azula_run(
    make: Callable[[Any, Tensor], Any], prior: Any, physics: Any, y: Tensor, draws: int, seed: int
) -> Tensor:
    """Run the sampler that `make(denoiser, y of all lanes)` returns, from pure noise."""
    shape = _start(physics, draws, seed)
    sampler = make(_azula(prior), y.expand(draws, *y.shape[1:]))
    return sampler(sampler.init(shape, dtype=y.dtype))


def _of(name: str, prior: Any, physics: Any, y: Tensor, draws: int, seed: int,
        **settings: Any) -> Tensor:  # fmt: skip
    """Run azula's ancestral sampler on one of its guided denoisers."""
    import azula.guidance
    from azula.sample import DDPMSampler

    def make(denoiser: Any, many: Tensor) -> Any:
        guided = getattr(azula.guidance, name)(denoiser, many, physics.A, **settings)
        return DDPMSampler(guided, steps=STEPS, silent=True, dtype=y.dtype)

    return _azula_run(make, prior, physics, y, draws, seed)


def azula_dps(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Diffusion posterior sampling (Chung et al. 2023)."""
    from azula.guidance import DPSSampler

    def make(denoiser: Any, many: Tensor) -> Any:
        return DPSSampler(denoiser, many, physics.A, steps=STEPS, silent=True, dtype=y.dtype)

    return _azula_run(make, prior, physics, y, draws, seed)


def azula_pgdm(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Pseudo-inverse guidance (Song et al. 2023); takes the data for noiseless."""
    from azula.guidance import PGDMSampler

    def make(denoiser: Any, many: Tensor) -> Any:
        return PGDMSampler(
            denoiser, many, physics.A, physics.A_dagger, steps=STEPS, silent=True, dtype=y.dtype
        )

    return _azula_run(make, prior, physics, y, draws, seed)


def azula_diffpir(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Denoising diffusion plug and play (Zhu et al. 2023)."""
    return _of("DiffPIRDenoiser", prior, physics, y, draws, seed, var_y=_sd(physics) ** 2)


def azula_tmpd(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Tweedie moment projection, diagonal (Boys et al. 2023)."""
    return _of("TMPDenoiser", prior, physics, y, draws, seed, var_y=_sd(physics) ** 2)


def azula_mmps(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Moment matching (Rozet et al. 2024), three iterations of its solver."""
    from azula.linalg.covariance import IsotropicCovariance

    cov = IsotropicCovariance(torch.as_tensor(_sd(physics) ** 2, dtype=y.dtype))
    return _of("MMPSDenoiser", prior, physics, y, draws, seed, cov_y=cov, iterations=3)


FOREIGN = {
    f.__name__: f
    for f in (
        deepinv_dps, deepinv_pigdm, deepinv_moments, deepinv_ddrm, deepinv_ula, deepinv_skrock,
        azula_dps, azula_pgdm, azula_diffpir, azula_tmpd, azula_mmps,
    )
}  # fmt: skip


def log_posterior(
    prior: Any, physics: Any, y: Tensor
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return the function x [D] → log p(x | y) up to a constant and its gradient [D].

    For a prior with a density, `log_density`; each call counts as one evaluation of the prior.
    """

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        prior.evaluations += 1
        with torch.enable_grad():
            image = torch.as_tensor(x).to(y).reshape(1, *physics.img_size).requires_grad_(True)
            misfit = ((physics.A(image) - y) / _sd(physics)).square().sum()
            value = prior.log_density(image).sum() - 0.5 * misfit
            (slope,) = torch.autograd.grad(value, image)
        return float(value.detach()), slope.flatten().double().numpy()

    return function


def _cuqipy(
    kind: str, thin: int, prior: Any, physics: Any, y: Tensor, draws: int, seed: int
) -> Tensor:
    """Run one chain of CUQIpy's on the posterior's density, a fifth of it to warm up."""
    import cuqi.sampler
    from cuqi.distribution import UserDefinedDistribution

    np.random.seed(seed)  # noqa: NPY002 (the generator that CUQIpy draws from)
    shape = _start(physics, draws, seed)
    function, last = log_posterior(prior, physics, y), {}

    def both(x: Any) -> tuple[float, np.ndarray]:  # its samplers ask for value and slope in turn
        x = np.asarray(x, float).ravel()
        if "x" not in last or not np.array_equal(last["x"], x):
            last.update(x=x.copy(), found=function(x))
        return last["found"]

    target = UserDefinedDistribution(
        dim=int(np.prod(shape[1:])),
        logpdf_func=lambda x: both(x)[0],
        gradient_func=lambda x: both(x)[1],
    )
    start = np.random.randn(target.dim)  # noqa: NPY002
    if kind == "MALA":  # its step has no adaptation: halved until half of the proposals are taken
        scale, taken = 1.0, 0.0
        while taken < 0.5 and scale > 1e-8:
            scale /= 2
            chain = cuqi.sampler.MALA(target, scale=scale, initial_point=start)
            chain.sample(100)
            tried = chain.get_samples().samples
            taken = float((np.diff(tried) != 0).any(0).mean())
    else:
        chain = cuqi.sampler.NUTS(target, initial_point=start)
    chain.warmup(max(draws * thin // 5, 100))
    chain.sample(draws * thin)
    x = chain.get_samples().samples[:, -draws * thin :: thin]
    return torch.as_tensor(x.T.copy()).to(y).reshape(shape)


def cuqipy_nuts(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """No-U-turn sampler of CUQIpy (Riis et al. 2024), each state a draw."""
    return _cuqipy("NUTS", 1, prior, physics, y, draws, seed)


def cuqipy_mala(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
    """Metropolis-adjusted Langevin of CUQIpy, each tenth state a draw."""
    return _cuqipy("MALA", 10, prior, physics, y, draws, seed)


# Not in the extra `benchmark`: CUQIpy 1.5.1 asks for NumPy ≤ 2.2.0, which would hold back all.
CUQIPY = {f.__name__: f for f in (cuqipy_nuts, cuqipy_mala)}


def table(problems: int, draws: int, functions: dict[str, Any]) -> None:
    """Print one row per sampler and noise; sciinv's default is the first."""
    from sciinv.calibration.benchmark.foreign import FunctionSampler, default
    from sciinv.calibration.benchmark.linear import mixture_case, random_mixture

    makers: dict[str, Any] = {"sciinv DAPS(prior)": default(draws)}
    for name, function in functions.items():
        makers[name] = lambda p, f=function, n=name: FunctionSampler(p, f, n)
    head = ("sampler", "noise", "calls", "distance ÷ sd, mean (worst)", "floor", "sd ratio",
            "weights of modes off by (floor)", "CPU ms a draw", "failed")  # fmt: skip
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for name, make in makers.items():
        for sd in (0.05, 0.3):
            began, rows, failed = time.process_time(), [], 0
            for seed in range(problems):
                try:
                    row = mixture_case(random_mixture(seed, sd), draws, make)
                except Exception as error:  # a foreign code's, whatever it is
                    print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
                    failed += 1
                    continue
                rows += [row] if row["finite"] else []
                failed += not row["finite"]
            each = 1e3 * (time.process_time() - began) / (draws * problems)
            if not rows:
                print(f"| {name} | {sd} | | | | | | | {failed} of {problems} |", flush=True)
                continue
            m = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
            worst = max(r["distance"] for r in rows)
            print(f"| {name} | {sd} | {m['nfe']:.0f} | {m['distance']:.3f} ({worst:.2f}) "
                  f"| {m['floor']:.3f} | {m['sd_ratio']:.2f} | {m['mode_error']:.3f} "
                  f"({m['mode_floor']:.3f}) | {each:.1f} | {failed} of {problems} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[3:] or list(FOREIGN)
    every = FOREIGN | CUQIPY
    table(int(sys.argv[1]), int(sys.argv[2]), {name: every[name] for name in chosen})
