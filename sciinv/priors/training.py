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
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sciinv.errors import ConfigError, DivergenceError
from sciinv.priors.network import EDMNetwork, LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.phantoms import Family, family
from sciinv.seeds import stream_seed


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        name: Name of the prior and of its files.
        family: Family of images (see `sciinv.priors.phantoms`).
        source: Path of the data that the family is made from, where it needs any.
        nc: Feature channels of the network at its four scales.
        nb: Residual blocks per scale.
        patch: Side of the pixel blocks that are folded into channels.
        sigma_data: Root mean square of the images, units of u.
        sigma_min: Smallest σ that the prior shall serve, units of u.
        sigma_max: Largest, units of u.
        p_mean: Mean of ln σ in training.
        p_std: Its standard deviation.
        batch: Images per step.
        steps: Steps at which the decay begins when `finish` does not begin it earlier.
        decay: Steps of the final decay of the learning rate to zero.
        warmup: Steps of its rise.
        rate: Learning rate of Adam.
        clip: Largest norm of the gradient.
        ema: Images over which the averaged weights forget half of themselves.
        pool: Images in the pool.
        block: Images that are replaced at a time.
        refresh: Steps between two replacements.
        validation: Held-out images.
        seed: Seed of everything.
        threads: CPU threads.
        checkpoint_every: Steps between checkpoints.
        output: Folder of the prior and its card.
        checkpoints: Folder of the checkpoints.
    """

    name: str
    family: str
    source: str | None = None
    nc: tuple[int, int, int, int] = (32, 64, 128, 128)
    nb: int = 2
    patch: int = 2
    sigma_data: float = 0.5
    sigma_min: float = 0.01
    sigma_max: float = 30.0
    p_mean: float = -0.5
    p_std: float = 1.7
    batch: int = 16
    steps: int = 1_000_000
    decay: int = 2000
    warmup: int = 300
    rate: float = 1.5e-3
    clip: float = 1.0
    ema: int = 20_000
    pool: int = 4096
    block: int = 256
    refresh: int = 200
    validation: int = 128
    seed: int = 0
    threads: int = 1
    checkpoint_every: int = 500
    output: str = "data/priors"
    checkpoints: str = "results/checkpoints"

    @classmethod
    def of_mapping(cls, values: dict[str, Any], where: object = None) -> TrainConfig:
        """Return the configuration; `ConfigError` names keys that are unknown or missing."""
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        lacking = sorted({"name", "family"} - set(values))
        if unknown or lacking:
            raise ConfigError(
                "The training configuration has unknown or missing keys",
                where=where,
                expected=", ".join(known),
                got="; ".join(
                    f"{what}: {', '.join(names)}"
                    for what, names in (("unknown", unknown), ("missing", lacking))
                    if names
                ),
            )
        if "nc" in values:
            values = {**values, "nc": tuple(values["nc"])}
        return cls(**values)

    @classmethod
    def of_file(cls, path: str | Path) -> TrainConfig:
        """Return the configuration in a YAML file."""
        path = Path(path)
        if not path.is_file():
            raise ConfigError("There is no such training configuration", where=path)
        values = yaml.safe_load(path.read_text())
        if not isinstance(values, dict):
            raise ConfigError("The training configuration is no mapping", where=path, got=values)
        return cls.of_mapping(values, path)


class Pool:
    """Pre-generated images, of which a block is replaced every `refresh` steps.

    The content at a step depends on the seed and the step alone.
    """

    def __init__(self, config: TrainConfig, kind: Family, source: object) -> None:
        self.config, self.kind, self.source = config, kind, source
        self.slots = max(config.pool // config.block, 1)
        self.held: list[int] = [-1] * self.slots
        self.blocks: list[Tensor] = [torch.empty(0)] * self.slots

    def batch(self, step: int) -> Tensor:
        """Return the clean training images of a step, u [B, C, H, W] float32."""
        c = self.config
        turn = step // c.refresh
        for slot in range(self.slots):
            wanted = slot + self.slots * max(math.ceil((turn - slot) / self.slots), 0)
            if self.held[slot] != wanted:
                self.blocks[slot] = self.kind.pool(c.seed, wanted + 1, c.block, self.source)
                self.held[slot] = wanted
        stream = torch.Generator().manual_seed(stream_seed(c.seed, "batch", step))
        picks = torch.randint(0, self.slots * c.block, (c.batch,), generator=stream).tolist()
        images = torch.stack([self.blocks[p // c.block][p % c.block] for p in picks]).float()
        return self.kind.augment(images, stream)


def validation_images(config: TrainConfig, kind: Family, source: object) -> Tensor:
    """Return the held-out images of the run (block 0 is never trained on)."""
    images = kind.pool(config.seed, 0, config.validation, source).float()
    return kind.augment(images, torch.Generator().manual_seed(stream_seed(config.seed, "held-out")))


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

    def save(self, path: Path) -> None:
        """Write a checkpoint (safetensors) aside and put it in place."""
        tensors: dict[str, Tensor] = {}
        for name, p in self.network.named_parameters():
            tensors[f"network.{name}"] = p.detach()
            for key in ("exp_avg", "exp_avg_sq"):
                if p in self.optimizer.state:
                    tensors[f"{key}.{name}"] = self.optimizer.state[p][key]
        tensors |= {f"ema.{n}": p.detach() for n, p in self.ema.named_parameters()}
        tensors = {k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        facts = {k: getattr(self, k) for k in ("step", "finish_from", "seconds", "curve")}
        part = path.with_suffix(".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, metadata={"state": json.dumps(facts)})
        part.replace(path)

    def restore(self, path: Path) -> None:
        """Take up a checkpoint."""
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["state"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        with torch.no_grad():
            for part, module in (("network", self.network), ("ema", self.ema)):
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


def start(config: TrainConfig, kind: Family) -> State:
    """Return a fresh state with weights drawn from the seed."""
    torch.manual_seed(stream_seed(config.seed, "weights") % 2**31)
    spec = NetworkSpec(kind.shape[0], config.nc, config.nb, config.patch)
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


def prior_of(config: TrainConfig, state: State, kind: Family) -> LearnedPrior:
    """Return the averaged weights as a prior in physical units."""
    from sciinv import __version__

    prior = LearnedPrior(
        NetworkSpec(kind.shape[0], config.nc, config.nb, config.patch),
        Preconditioning(
            config.sigma_data, config.sigma_min, config.sigma_max, kind.offset, kind.scale
        ),
        train_shape=kind.shape,
        fixed_size=kind.fixed_size,
        units=kind.units,
        name=config.name,
        metadata={
            "pixel": {"side": kind.pixel, "unit": kind.pixel_unit},
            "data": {"family": kind.name, "summary": kind.summary, "licence": kind.licence},
            "training": {
                **{k: v for k, v in asdict(config).items() if k not in ("checkpoints", "output")},
                "steps": state.step,
                "images": state.step * config.batch,
                "seconds": round(state.seconds),
                "optimizer": "Adam (0.9, 0.99), EDM loss, bfloat16 autocast, averaged weights",
            },
            "command": f"sciinv train workflows/configs/train-{config.name}.yaml",
            "version": __version__,
        },
    )
    prior.network.load_state_dict(state.ema.state_dict())
    return prior


CURVE = (0.02, 0.05, 0.2, 1.0, 5.0, 20.0)


def train(
    config: TrainConfig,
    *,
    finish: bool = False,
    resume: bool = True,
    max_steps: int | None = None,
    log: Callable[[str], None] | None = None,
) -> LearnedPrior:
    """Train, write checkpoints, and return the prior with its averaged weights.

    Args:
        config: The run.
        finish: Begin the final decay at the latest checkpoint.
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
    if finish and state.finish_from < 0:
        state.finish_from = state.step
    held_out = validation_images(config, kind, source)
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
            say(f"{config.name} validation " + " ".join(f"{s:g}:{e:.4f}" for s, e in errors.items()))
            state.save(path)
        if max_steps is not None and state.step - first >= max_steps:
            break
    state.save(path)
    return prior_of(config, state, kind)


if __name__ == "__main__":
    train(TrainConfig.of_file(sys.argv[1]), finish="--finish" in sys.argv)
