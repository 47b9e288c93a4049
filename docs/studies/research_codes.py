"""Research codes of other groups, run from where the user has them, beside sciinv's samplers.

    python docs/studies/research_codes.py --daps FOLDER [--pnpdm FOLDER] [--mcgdiff FOLDER] \
        race|table PROBLEMS DRAWS

FOLDER is a clone of that code (github.com/zhangbingliang2019/DAPS, zihuiwu/PnP-DM-public,
gabrielvc/mcg_diff) whose own requirements are installed. Nothing of theirs is in this file: it
imports their sampler, hands it the prior's denoiser as its network and the operator as its
operator, and takes the settings from their configuration. "race" prints CPU time and CRPS in
turns, "table" the distances to known posteriors, these codes beside all of `foreign_samplers.py`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

Function = Callable[[Any, Any, Tensor, int, int], Tensor]


@contextmanager
def first_on_the_path(folder: Path) -> Iterator[None]:
    """Import from a folder, then forget its modules: the codes share names such as `sampler`."""
    if not folder.is_dir():
        raise SystemExit(f"There is no folder {folder}: clone the code there, or leave it out")
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            own = getattr(sys.modules[name], "__file__", None) or ""
            if Path(own).is_relative_to(folder.resolve()):
                del sys.modules[name]


def modules_of(folder: str | Path, *names: str) -> list[ModuleType]:
    """Return modules of a research code."""
    folder = Path(folder).resolve()
    with first_on_the_path(folder):
        return [importlib.import_module(name) for name in names]


def settings_of(folder: str | Path, name: str) -> dict[str, Any]:
    """Return a YAML configuration of a research code; 1e-4 is a number there, as OmegaConf's is."""
    import yaml

    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: numbers(v) for k, v in value.items()}
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value

    return numbers(yaml.safe_load((Path(folder) / name).read_text()))


class Network(torch.nn.Module):
    """A prior as the network that the DAPS code expects, in units of `unit`."""

    def __init__(self, prior: Any, shape: tuple[int, ...], unit: float) -> None:
        super().__init__()
        self.prior, self.shape, self.unit = prior, shape, unit
        self.place = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

    def tweedie(self, x: Tensor, sigma: Any) -> Tensor:
        """Return E[x0 | x_t]."""
        u = self.unit
        with torch.no_grad():
            return self.prior(x * u, torch.as_tensor(sigma).to(x) * u) / u

    def score(self, x: Tensor, sigma: Any) -> Tensor:
        """Return the score by Tweedie's formula."""
        return (self.tweedie(x, sigma) - x) / sigma**2

    def get_in_shape(self) -> tuple[int, ...]:
        """Return (C, H, W)."""
        return self.shape


def daps(folder: str | Path, task: str = "gaussian_blur", unit: float | None = None) -> Function:
    """Return the DAPS authors' sampler at the settings of `configs/`, images in [−1, 1].

    What their numbers are made for, images of size 1 and ‖A‖ ≤ 1, is reached as
    `samplers.DAPS.published` reaches it: by the prior's unit, and by dividing by ‖A‖ above 1.
    Single precision, as the code has it.

    Args:
        folder: A clone of github.com/zhangbingliang2019/DAPS.
        task: File in `configs/task` whose inner chain is taken.
        unit: Size of the image that the code takes for 1; see `samplers.DAPS.published`.
    """
    code, operators = modules_of(folder, "sampler", "forward_operator")
    annealing = settings_of(folder, "configs/sampler/edm_daps.yaml")
    inner = settings_of(folder, f"configs/task/{task}.yaml")["pixel"]["mcmc_sampler_config"]

    def run(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
        from sciinv.samplers.daps import _unit

        size = _unit(prior) if unit is None else unit
        shape = tuple(physics.img_size)
        start = torch.zeros(1, *shape)
        norm = float(physics.compute_sqnorm(start + 1.0, verbose=False)) ** 0.5
        norm = norm if norm > 1.02 else 1.0

        class Measured(operators.Operator):  # type: ignore[name-defined,misc]
            def __call__(self, x: Tensor) -> Tensor:
                return physics.A(x) / norm

        torch.manual_seed(seed)
        network = Network(prior, shape, size)
        sampler = code.get_sampler(**annealing, mcmc_sampler_config=dict(inner))
        data = (y.float() / (size * norm)).expand(draws, *y.shape[1:])
        x = sampler.sample(network, sampler.get_start(draws, network), Measured(), data)
        return (x * size).to(y.dtype)

    return run


def pnpdm(folder: str | Path, mode: str = "edm_sde") -> Function:
    """Return PnP-DM's batch sampler at the settings of its linear problems.

    `configs/sampler/pnp_edm.yaml` with ρ from 10 to 0.3 by 0.9 an iteration (`commands.sh`). Their
    operators bring their own draw of z ~ p(y | z) N(z; x, ρ²); here it is drawn with the operator
    as a matrix, exactly.

    Args:
        folder: A clone of github.com/zihuiwu/PnP-DM-public.
        mode: Of the prior's step.
    """
    (code,) = modules_of(folder, "pnpdm.samplers.pnp_edm.pnp_edm")
    config = settings_of(folder, "configs/sampler/pnp_edm.yaml")
    config |= {"mode": mode, "rho": 10.0, "rho_decay_rate": 0.9, "rho_min": 0.3}

    def run(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
        shape = tuple(physics.img_size)
        sd = float(physics.noise_model.sigma)
        size = int(np.prod(shape))
        rows = physics.A(torch.eye(size).reshape(size, *shape)).reshape(size, -1).mT.float()
        gram, data = rows.mT @ rows / sd**2, (y.float().flatten() / sd**2) @ rows

        class Net:
            sigma_min, sigma_max = float(prior.sigma_min), float(prior.sigma_max)

            def round_sigma(self, sigma: Tensor) -> Tensor:
                return sigma

            def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
                with torch.no_grad():
                    return prior(x.float(), sigma.float())

        class Measured:
            def proximal_generator(self, x: Tensor, y: Tensor, sigma: float, rho: float) -> Tensor:
                factor = torch.linalg.cholesky(gram + torch.eye(size) / rho**2)
                mean = torch.cholesky_solve((data + x.flatten(1) / rho**2).mT, factor)
                noise = torch.linalg.solve_triangular(
                    factor.mT, torch.randn(size, len(x)), upper=True
                )
                return (mean + noise).mT.reshape(x.shape)

        torch.manual_seed(seed)
        settings = SimpleNamespace(**config | {"num_samples_per_run": draws})
        sampler = code.PnPEDMBatch(settings, Net(), Measured(), SimpleNamespace(sigma=sd), "cpu")
        return sampler(torch.zeros(1, *shape), y.float()).to(y.dtype)

    return run


def mcgdiff(folder: str | Path, particles: int = 128, steps: int = 100) -> Function:
    """Return MCG-diff (Cardoso et al. 2024), one particle filter a draw, as its example runs it.

    Args:
        folder: A clone of github.com/gabrielvc/mcg_diff.
        particles: Of each filter; their benchmark has 32 and 128.
        steps: DDIM steps.
    """
    filters, sgm, utils = modules_of(
        folder, "mcg_diff.particle_filter", "mcg_diff.sgm", "mcg_diff.utils"
    )
    betas = torch.linspace(0.02, 1e-4, steps=999)
    alphas = torch.cumprod(torch.cat([torch.ones(1), 1 - betas]), 0)

    def run(prior: Any, physics: Any, y: Tensor, draws: int, seed: int) -> Tensor:
        shape = tuple(physics.img_size)
        size = int(np.prod(shape))
        sd = torch.tensor(float(physics.noise_model.sigma))
        rows = physics.A(torch.eye(size).reshape(size, *shape)).reshape(size, -1).mT.float()
        u, s, v = torch.linalg.svd(rows, full_matrices=True)
        seen = torch.arange(size) < len(s)

        def eps(x: Tensor, t: Any) -> Tensor:
            a = alphas[t]
            d = prior(x.reshape(-1, *shape) / a.sqrt(), ((1 - a) / a).sqrt())
            return (x - a.sqrt() * d.reshape(x.shape)) / (1 - a).sqrt()

        model = sgm.ScoreModel(utils.NetReparametrized(eps, v), alphas, "cpu")
        times = utils.get_optimal_timesteps_from_singular_values(
            alphas_cumprod=alphas, singular_value=s, n_timesteps=steps, var=sd**2, mode="else"
        )

        def one(start: Tensor) -> Tensor:
            x, log_w = filters.mcg_diff(
                initial_particles=start,
                observation=u.mT @ y.float().flatten(),
                score_model=model,
                likelihood_diagonal=s,
                coordinates_mask=seen,
                var_observation=sd**2,
                timesteps=times,
                eta=0.6,
                gaussian_var=1e-6,
            )
            pick = torch.distributions.Categorical(logits=log_w, validate_args=False).sample((1,))
            return v.mT @ x[pick][0]

        torch.manual_seed(seed)
        with torch.no_grad():
            start = torch.randn(draws, particles, size)
            x = torch.func.vmap(one, randomness="different")(start)
        return x.reshape(draws, *shape).to(y.dtype)

    return run


def race(
    functions: dict[str, Function],
    problems: int,
    draws: int,
    noises: tuple[float, ...] = (0.05, 0.3),
) -> None:
    """Print CPU time and CRPS of every code, `DAPS.published` and the default, in turns."""
    from sciinv.calibration.benchmark.foreign import FunctionSampler, default
    from sciinv.calibration.benchmark.race import mixture_starts
    from sciinv.calibration.benchmark.race import race as run
    from sciinv.samplers import DAPS

    makers: dict[str, Any] = {
        name: lambda p, f=f, n=name: FunctionSampler(p, f, n) for name, f in functions.items()
    }
    makers["sciinv DAPS.published"] = lambda p: DAPS.published(p, micro_batch=draws)
    makers["sciinv DAPS(prior)"] = default(draws)
    print("| code | noise | calls | CPU ms a draw | × faster than the first | CRPS | "
          "spread ÷ RMSE | truth inside 50 / 80 / 90 % |\n" + "|---" * 8 + "|")  # fmt: skip
    for sd in noises:
        for r in run(mixture_starts(problems, sd), makers, draws, clock=time.process_time):
            inside = " / ".join(f"{100 * c:.0f}" for c in r["coverage"])
            print(f"| {r['method']} | {sd} | {r['nfe']:.0f} | {1e3 * r['seconds']:.2f} "
                  f"| {r['faster']:.1f} | {r['crps']:.4f} ± {r['crps_error']:.4f} "
                  f"| {r['spread_skill']:.2f} | {inside} |", flush=True)  # fmt: skip


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--daps", help="a clone of github.com/zhangbingliang2019/DAPS")
    parser.add_argument("--pnpdm", help="a clone of github.com/zihuiwu/PnP-DM-public")
    parser.add_argument("--mcgdiff", help="a clone of github.com/gabrielvc/mcg_diff")
    parser.add_argument("what", choices=("race", "table"))
    parser.add_argument("problems", type=int)
    parser.add_argument("draws", type=int)
    parser.add_argument("--noise", type=float, help="of the race; 0.05 and 0.3 if left out")
    asked = parser.parse_args()
    functions: dict[str, Function] = {}
    if asked.daps:
        functions["DAPS, the authors' code"] = daps(asked.daps)
    if asked.pnpdm:
        functions["PnP-DM, the authors' code"] = pnpdm(asked.pnpdm)
    if asked.mcgdiff:
        functions["MCG-diff, the authors' code"] = mcgdiff(asked.mcgdiff)
    torch.set_num_threads(1)
    if asked.what == "race":
        race(functions, asked.problems, asked.draws, (asked.noise,) if asked.noise else (0.05, 0.3))
    else:
        from foreign_samplers import FOREIGN, table

        table(asked.problems, asked.draws, FOREIGN | functions)


if __name__ == "__main__":
    main()
