"""Training of a learned prior: denoising score matching with EDM's loss, resumable at any step.

Every batch is a function of (seed, step), so a run that was stopped goes on as if it had not been.
The learning rate warms up, stays, and decays only when the run is finished (`finish=True`): the
moment of the end can be chosen from any checkpoint.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sciinv.errors import DivergenceError, PriorError
from sciinv.priors import evaluation, files, widths
from sciinv.priors.network import EDMNetwork, HighSpec, LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.phantoms import Family, family
from sciinv.priors.recipes import Pool, TrainConfig, images_of
from sciinv.seeds import stream_seed

MEAN_OF = 512  # images that the mean of a class is taken over
CURVE = (0.02, 0.05, 0.2, 1.0, 5.0, 20.0)


def loss(network: EDMNetwork, x0: Tensor, stream: torch.Generator, config: TrainConfig) -> Tensor:
    """EDM's loss: λ(σ) ‖D(x0 + σε, σ) − x0‖² with λ = 1/c_out², ln σ ~ N(p_mean, p_std²)."""
    s_d = config.sigma_data
    ln = config.p_mean + config.p_std * torch.randn(len(x0), 1, 1, 1, generator=stream)
    sigma = ln.exp().clamp(config.sigma_min / 2, config.sigma_max * 2)
    x = x0 + sigma * torch.randn(x0.shape, generator=stream)
    var = sigma**2 + s_d**2
    # ‖D − x0‖²/c_out² = ‖F − (x0 − c_skip x)/c_out‖², kept free of cancellation at small σ.
    target = (x0 - s_d**2 / var * x) * var.sqrt() / (sigma * s_d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = network.raw(x / var.sqrt(), sigma)
    return (raw.float() - target).square().mean()


def validate(network: EDMNetwork, images: Tensor, sigmas: tuple[float, ...]) -> dict[float, float]:
    """Return the root mean square error per σ, with noise that is the same each time."""
    out = {}
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for sigma in sigmas:
            noise = torch.Generator().manual_seed(int(1e6 * sigma))
            total = 0.0
            for x0 in images.split(16):
                x = x0 + sigma * torch.randn(x0.shape, generator=noise)
                d = network(x, torch.full((len(x0), 1, 1, 1), sigma))
                total += float((d.float() - x0).square().mean()) * len(x0)
            out[sigma] = math.sqrt(total / len(images))
    return out


@dataclass
class State:
    """Everything that a run needs to go on."""

    network: EDMNetwork
    ema: EDMNetwork
    optimizer: torch.optim.Adam
    step: int = 0
    finish_from: int = -1
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    stretches: list[dict[str, float]] = field(default_factory=list)

    FACTS = ("step", "finish_from", "seconds", "curve", "stretches")

    @property
    def images(self) -> int:
        """Number of images that the network was shown, over all stretches of the run."""
        ends = [*[s["from"] for s in self.stretches], self.step][1:]
        return int(
            sum((b - s["from"]) * s["batch"] for s, b in zip(self.stretches, ends, strict=True))
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint (safetensors) aside and put it in place."""
        tensors: dict[str, Tensor] = {}
        if self.network.spec.mean_size is not None:
            tensors["mean"] = self.network.mean
        for name, p in self.network.named_parameters():
            tensors[f"network.{name}"] = p.detach()
            for key in ("exp_avg", "exp_avg_sq"):
                if p in self.optimizer.state:
                    tensors[f"{key}.{name}"] = self.optimizer.state[p][key]
        tensors |= {f"ema.{n}": p.detach() for n, p in self.ema.named_parameters()}
        tensors = {k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        facts = {k: getattr(self, k) for k in self.FACTS}
        part = path.with_suffix(".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, metadata={"state": json.dumps(facts)})
        part.replace(path)

    def restore(self, path: Path) -> None:
        """Take up a checkpoint."""
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads(file.metadata()["state"])
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            self._take(facts, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise PriorError(
                "The checkpoint cannot be taken up",
                where=path,
                expected="a checkpoint of the same network",
                got=error,
                remedy="move it away to start afresh, or take the configuration it was made with",
            ) from error

    def _take(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for part, module in (("network", self.network), ("ema", self.ema)):
                if module.spec.mean_size is not None:
                    module.mean.copy_(tensors["mean"])
                for name, p in module.named_parameters():
                    p.copy_(tensors[f"{part}.{name}"])
            for name, p in self.network.named_parameters():
                if f"exp_avg.{name}" in tensors:
                    self.optimizer.state[p] = {
                        "step": torch.tensor(float(facts["step"])),
                        **{
                            key: torch.empty_like(p).copy_(tensors[f"{key}.{name}"])
                            for key in ("exp_avg", "exp_avg_sq")
                        },
                    }
        for key, value in facts.items():
            setattr(self, key, value)


def spec_of(config: TrainConfig, kind: Family) -> NetworkSpec:
    """Return the sizes of the network of a run."""
    size = kind.shape[1:] if config.mean else None
    return NetworkSpec(
        kind.shape[0],
        config.nc,
        config.nb,
        config.patch,
        config.highpass,
        size,
        config.phase,
        config.turn,
    )


def start(config: TrainConfig, kind: Family) -> State:
    """Return a fresh state with weights drawn from the seed."""
    torch.manual_seed(stream_seed(config.seed, "weights") % 2**31)
    spec = spec_of(config, kind)
    ends = (config.sigma_min / 2, config.sigma_max * 2)
    network = EDMNetwork(spec, config.sigma_data, ends).to(memory_format=torch.channels_last)
    ema = EDMNetwork(spec, config.sigma_data, ends).to(memory_format=torch.channels_last)
    ema.load_state_dict(network.state_dict())
    return State(network, ema, torch.optim.Adam(network.parameters(), config.rate, (0.9, 0.99)))


def rate_at(config: TrainConfig, step: int, finish_from: int) -> float:
    """Return the learning rate: linear rise, plateau, (1 − √progress) decay once finishing."""
    rate = config.rate * min((step + 1) / config.warmup, 1.0)
    if finish_from >= 0:
        rate *= 1 - math.sqrt(min((step - finish_from) / config.decay, 1.0))
    return rate


def run(config: TrainConfig, state: State, kind: Family, source: object) -> Iterator[float]:
    """Train step by step and yield the loss of each; the caller decides when to look or stop."""
    pool = Pool(config, kind, source)
    half = config.batch / config.ema
    state.network.train()
    while not (state.finish_from >= 0 and state.step >= state.finish_from + config.decay):
        if state.finish_from < 0 and state.step >= config.steps:
            state.finish_from = state.step
        begin = time.monotonic()
        for group in state.optimizer.param_groups:
            group["lr"] = rate_at(config, state.step, state.finish_from)
        stream = torch.Generator().manual_seed(stream_seed(config.seed, "noise", state.step))
        x0 = pool.batch(state.step).contiguous(memory_format=torch.channels_last)
        value = loss(state.network, x0, stream, config)
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


_PLACES = (
    "source",
    "high",
    "high_above",
    "checkpoints",
    "output",
    "name",
    "nc",
    "nb",
    "patch",
    "highpass",
    "mean",
    "phase",
    "turn",
)


def prior_of(config: TrainConfig, state: State, kind: Family) -> LearnedPrior:
    """Return the averaged weights as a prior in physical units."""
    from sciinv import __version__

    high = files.load(config.high) if config.high else None
    prior = LearnedPrior(
        spec_of(config, kind),
        Preconditioning(
            config.sigma_data, config.sigma_min, config.sigma_max, kind.offset, kind.scale
        ),
        train_shape=kind.shape,
        fixed_size=kind.fixed_size,
        units=kind.units,
        name=config.name,
        high=None
        if high is None
        else HighSpec(high.spec, max(config.high_above, high.constants.sigma_min)),
        metadata={
            "pixel": {"side": kind.pixel, "unit": kind.pixel_unit},
            "data": {"family": kind.name, "summary": kind.summary, "licence": kind.licence},
            "training": {
                **{k: v for k, v in asdict(config).items() if k not in _PLACES},
                "steps": state.step,
                "images": state.images,
                "stretches": state.stretches,
                "seconds": round(state.seconds),
                "optimizer": "Adam (0.9, 0.99), EDM loss, bfloat16 autocast, averaged weights",
            },
            **({} if high is None else {"training_high": high.metadata["training"]}),
            "command": f"sciinv train workflows/configs/train-{config.name}.yaml",
            "version": __version__,
        },
    )
    prior.network.load_state_dict(state.ema.state_dict())
    if high is not None:
        if high.constants.sigma_data != config.sigma_data:
            raise PriorError(
                "The network for high noise has another scale",
                where=config.high,
                expected=f"sigma_data {config.sigma_data}",
                got=high.constants.sigma_data,
                remedy="train it with the same sigma_data",
            )
        prior.high.load_state_dict(high.network.state_dict())
    return prior


def train(
    config: TrainConfig,
    *,
    finish: bool = False,
    resume: bool = True,
    max_steps: int | None = None,
    log: Callable[[str], None] | None = None,
) -> LearnedPrior:
    """Train, write checkpoints, and return the prior with its averaged weights.

    At the end of the final decay the prior is written to `config.output` (see `export`).

    Args:
        config: The run.
        finish: Begin the final decay at the latest checkpoint; a finished run gets another one.
        resume: Go on from the latest checkpoint where there is one.
        max_steps: Stop after this many steps of this call (a checkpoint is left).
        log: Takes a line of progress; standard error when None.

    Raises:
        DivergenceError: A gradient was not finite.
    """
    say = log or (lambda line: print(line, file=sys.stderr, flush=True))
    torch.set_num_threads(config.threads)
    kind = family(config.family)
    source = kind.source(config.source)
    state = start(config, kind)
    path = Path(config.checkpoints) / f"{config.name}.safetensors"
    if resume and path.is_file():
        state.restore(path)
        say(f"{config.name}: resumed at step {state.step}")
    elif config.mean:
        known = images_of(config, kind, source, block=1, count=MEAN_OF)
        for network in (state.network, state.ema):
            network.mean.copy_(known.mean(0))
    now = {"from": state.step, "batch": config.batch, "rate": config.rate}
    if not state.stretches or any(state.stretches[-1][k] != now[k] for k in ("batch", "rate")):
        state.stretches.append(now)
    ended = state.finish_from >= 0 and state.step >= state.finish_from + config.decay
    if finish and (state.finish_from < 0 or ended):
        state.finish_from = state.step
    held_out = images_of(config, kind, source, block=0, count=config.validation)
    losses: list[float] = []
    begin, first = time.monotonic(), state.step
    for value in run(config, state, kind, source):
        losses.append(value)
        if state.step % 100 == 0:
            speed = (state.step - first) * config.batch / (time.monotonic() - begin)
            say(
                f"{config.name} step {state.step} loss {sum(losses) / len(losses):.4f} "
                f"rate {rate_at(config, state.step, state.finish_from):.2e} {speed:.1f} images/s"
            )
            losses = []
        if state.step % config.checkpoint_every == 0:
            errors = validate(state.ema, held_out[:64], CURVE)
            state.curve.append({"step": state.step, **{f"{s:g}": e for s, e in errors.items()}})
            say(
                f"{config.name} validation " + " ".join(f"{s:g}:{e:.4f}" for s, e in errors.items())
            )
            state.save(path)
        if max_steps is not None and state.step - first >= max_steps:
            break
    state.save(path)
    done = state.finish_from >= 0 and state.step >= state.finish_from + config.decay
    if not done:
        return prior_of(config, state, kind)
    return export(config, log=say)


def export(
    config: TrainConfig, *, log: Callable[[str], None] | None = None, level_count: int = 24
) -> LearnedPrior:
    """Measure the prior in the latest checkpoint and write NAME.safetensors, NAME.md and pictures.

    Widths, errors and samples are those of the weights as stored (float16).

    Raises:
        PriorError: There is no checkpoint.
    """
    say = log or (lambda line: print(line, file=sys.stderr, flush=True))
    torch.set_num_threads(config.threads)
    kind = family(config.family)
    source = kind.source(config.source)
    state = start(config, kind)
    checkpoint, out = Path(config.checkpoints) / f"{config.name}.safetensors", Path(config.output)
    if not checkpoint.is_file():
        raise PriorError("There is no checkpoint to export", where=checkpoint)
    state.restore(checkpoint)
    path = out / f"{config.name}.safetensors"
    files.save(prior_of(config, state, kind), path, storage=torch.float16)
    prior = files.load(path)
    x0 = kind.offset + kind.scale * images_of(
        config, kind, source, block=0, count=config.validation
    )
    known = kind.offset + kind.scale * images_of(config, kind, source, block=1, count=512)
    ends = (math.log10(prior.sigma_min), math.log10(prior.sigma_max))
    say(f"{config.name}: fitting widths")
    prior.widths = widths.measure(prior, x0, torch.logspace(*ends, level_count), seed=config.seed)
    prior.metadata["validation"] = state.curve
    files.save(prior, path, storage=torch.float16)
    say(f"{config.name}: errors")
    rows = evaluation.error_table(
        prior,
        x0,
        evaluation.Wiener.of_images(known),
        [s * kind.scale for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)],
        seed=config.seed,
    )
    say(f"{config.name}: samples")
    samples = evaluation.unconditional(prior, 64, kind.shape, seed=config.seed)
    evaluation.picture(samples, out / f"{config.name}-samples.png")
    evaluation.picture(known[:32], out / f"{config.name}-training.png")
    pictures = {
        "Unconditional samples (Heun, 24 levels)": f"{config.name}-samples.png",
        "Training images": f"{config.name}-training.png",
    }
    (out / f"{config.name}.md").write_text(evaluation.card(prior, rows, kind.limits, pictures))
    say(f"{config.name}: wrote {path}")
    return prior


if __name__ == "__main__":
    chosen = TrainConfig.of_file(sys.argv[1])
    if "--export" in sys.argv:
        export(chosen)
    else:
        train(chosen, finish="--finish" in sys.argv)
