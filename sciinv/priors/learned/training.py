"""Training of a learned prior: denoising score matching with EDM's loss, resumable at any step.

Every batch is a function of (seed, step), so a run that was stopped goes on as if it had not been.
The learning rate warms up, stays, and decays only when the run is finished (`finish=True`): the
moment of the end can be chosen from any checkpoint.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from sciinv.arithmetic import fixed_arithmetic
from sciinv.errors import DivergenceError
from sciinv.priors.learned.export import export, prior_of
from sciinv.priors.learned.network import EDMNetwork, LearnedPrior
from sciinv.priors.learned.precision import cast
from sciinv.priors.learned.recipes import Pool, TrainConfig, images_of
from sciinv.priors.learned.state import State, rate_at, spec_of, start
from sciinv.priors.phantoms import Family, family
from sciinv.seeds import stream_seed

__all__ = ["export", "loss", "prior_of", "rate_at", "run", "spec_of", "start", "train", "validate"]

MEAN_OF = 512  # images that the mean of a class is taken over
DECAY_SHARE = 0.3  # of a run that ends by the clock
CURVE = (0.02, 0.05, 0.2, 1.0, 5.0, 20.0)


def loss(
    network: EDMNetwork, x0: Tensor, stream: torch.Generator, config: TrainConfig,
    held: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """EDM's loss: λ(σ) ‖D(h + σε, σ) − x0‖² with λ = 1/c_out², ln σ ~ N(p_mean, p_std²).

    h is x0, or `held`: marred images of which the network shall find the clean ones.
    """
    ln = config.p_mean + config.p_std * torch.randn(len(x0), 1, 1, 1, generator=stream)
    sigma = ln.exp().clamp(config.sigma_min / 2, config.sigma_max * 2)
    noise = torch.randn(x0.shape, generator=stream)
    here = next(network.parameters()).device  # images and noise are drawn on the host
    held = x0 if held is None else held
    x0, held, sigma, noise = (t.to(here) for t in (x0, held, sigma, noise))
    with cast(here):
        skip, c_out, raw = network.parts(held + sigma * noise, sigma)
    # ‖D − x0‖²/c_out² as F against what it should return: free of cancellation at small σ
    return (raw.float() - (x0 - skip) / c_out).square().mean()


def validate(network: EDMNetwork, images: Tensor, sigmas: tuple[float, ...]) -> dict[float, float]:
    """Return the root mean square error per σ, with noise that is the same each time."""
    out = {}
    here = next(network.parameters()).device
    with torch.no_grad(), cast(here):
        for sigma in sigmas:
            noise = torch.Generator().manual_seed(int(1e6 * sigma))
            total = 0.0
            for x0 in images.split(16):
                x = x0 + sigma * torch.randn(x0.shape, generator=noise)
                d = network(x.to(here), torch.full((len(x0), 1, 1, 1), sigma, device=here))
                total += float((d.float().cpu() - x0).square().mean()) * len(x0)
            out[sigma] = math.sqrt(total / len(images))
    return out


def run(config: TrainConfig, state: State, kind: Family, source: object) -> Iterator[float]:
    """Train step by step and yield the loss of each; the caller decides when to look or stop."""
    pool = Pool(config, kind, source)
    half = config.batch / config.ema
    state.network.train()
    while not state.ended(config):
        late = config.minutes > 0 and state.seconds >= 60 * config.minutes * (1 - DECAY_SHARE)
        if state.finish_from < 0 and (state.step >= config.steps or late):
            state.finish_from = state.step
            if late:
                state.decay = max(round(state.step * DECAY_SHARE / (1 - DECAY_SHARE)), 20)
        begin = time.monotonic()
        for group in state.optimizer.param_groups:
            group["lr"] = rate_at(config, state.step, state.finish_from, state.decay)
        stream = torch.Generator().manual_seed(stream_seed(config.seed, "noise", state.step))
        x0, held = (t.contiguous(memory_format=torch.channels_last) for t in pool.batch(state.step))
        value = loss(state.network, x0, stream, config, held)
        state.optimizer.zero_grad(set_to_none=True)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.clip)
        if not bool(torch.isfinite(norm)):
            raise DivergenceError(
                "The training diverged",
                where=f"{config.name}, step {state.step}",
                expected="a finite gradient",
                got=float(norm),
                remedy="lower `rate` and go on from the last checkpoint",
            )
        state.optimizer.step()
        # The average forgets half of itself in `ema` images, less early on.
        keep = 0.5 ** min(half, 1.0) if state.step > 1 / half else state.step / (state.step + 10)
        keep = min(keep, 0.5**half)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(state.ema.parameters()), list(state.network.parameters()), 1 - keep
            )
        state.step += 1
        state.seconds += time.monotonic() - begin
        yield float(value.detach())


def train(
    config: TrainConfig,
    *,
    kind: Family | None = None,
    finish: bool = False,
    resume: bool = True,
    max_steps: int | None = None,
    budget: float | None = None,
    log: Callable[[str], None] | None = None,
) -> LearnedPrior:
    """Train, write checkpoints, and return the prior with its averaged weights.

    At the end of the final decay the prior is written to `config.output` (see `export`).

    Args:
        config: The run.
        kind: The images, where they are no family of `phantoms`.
        finish: Begin the final decay at the latest checkpoint; a finished run gets another one.
        resume: Go on from the latest checkpoint where there is one.
        max_steps: Stop after this many steps of this call (a checkpoint is left).
        budget: Seconds for measuring the finished prior, see `export`.
        log: Takes a line of progress; standard error when None.

    Raises:
        DivergenceError: A gradient was not finite.
    """
    say = log or (lambda line: print(line, file=sys.stderr, flush=True))
    with fixed_arithmetic(config.threads):
        kind = kind or family(config.family)
        source = kind.source(config.source)
        state = start(config, kind)
        path = Path(config.checkpoints) / f"{config.name}.safetensors"
        if resume and path.is_file():
            state.restore(path)
            say(f"{config.name}: resumed at step {state.step}")
        elif (config.mean or config.linear) and not config.init:  # else the file's
            known = images_of(config, kind, source, block=1, count=MEAN_OF)
            for network in (state.network, state.ema):
                mean = known.mean(0) * config.mean
                if config.mean:
                    network.mean.copy_(mean)
                if config.linear:
                    network.linear.fit(known - mean)
        now = {"from": state.step, "batch": config.batch, "rate": config.rate}
        if not state.stretches or any(state.stretches[-1][k] != now[k] for k in ("batch", "rate")):
            state.stretches.append(now)
        if finish and (state.finish_from < 0 or state.ended(config)):
            state.finish_from = state.step
        held_out = images_of(config, kind, source, block=0, count=config.validation)
        curve = tuple(s for s in CURVE if config.sigma_min <= s <= config.sigma_max) or CURVE
        losses: list[float] = []
        begin, first = time.monotonic(), state.step
        for value in run(config, state, kind, source):
            losses.append(value)
            if state.step % 100 == 0:
                rate = rate_at(config, state.step, state.finish_from, state.decay)
                speed = (state.step - first) * config.batch / (time.monotonic() - begin)
                say(
                    f"{config.name} step {state.step} loss {sum(losses) / len(losses):.4f} "
                    f"rate {rate:.2e} {speed:.1f} images/s"
                )
                losses = []
            if state.step % config.checkpoint_every == 0:
                errors = validate(state.ema, held_out[:64], curve)
                state.curve.append({"step": state.step, **{f"{s:g}": e for s, e in errors.items()}})
                say(
                    f"{config.name} validation "
                    + " ".join(f"{s:g}:{e:.4f}" for s, e in errors.items())
                )
                state.save(path)
            if max_steps is not None and state.step - first >= max_steps:
                break
        state.save(path)
        if not state.ended(config):
            return prior_of(config, state, kind)
        return export(config, kind=kind, log=say, budget=budget)


if __name__ == "__main__":
    chosen = TrainConfig.of_file(sys.argv[1])
    if "--export" in sys.argv:
        export(chosen)
    else:
        train(chosen, finish="--finish" in sys.argv)
