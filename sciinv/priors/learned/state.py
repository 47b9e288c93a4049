"""The state of a training run: networks, optimiser and step, in a checkpoint that is never half."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sciinv.errors import PriorError
from sciinv.priors.learned import files
from sciinv.priors.learned.network import EDMNetwork, NetworkSpec
from sciinv.priors.learned.precision import chosen
from sciinv.priors.learned.recipes import TrainConfig
from sciinv.priors.phantoms import Family
from sciinv.seeds import stream_seed


@dataclass
class State:
    """Everything that a run needs to go on."""

    network: EDMNetwork
    ema: EDMNetwork
    optimizer: torch.optim.Adam
    step: int = 0
    finish_from: int = -1
    decay: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    stretches: list[dict[str, float]] = field(default_factory=list)

    FACTS = ("step", "finish_from", "decay", "seconds", "curve", "stretches")

    @property
    def images(self) -> int:
        """Number of images that the network was shown, over all stretches of the run."""
        ends = [*[s["from"] for s in self.stretches], self.step][1:]
        return int(
            sum((b - s["from"]) * s["batch"] for s, b in zip(self.stretches, ends, strict=True))
        )

    def ended(self, config: TrainConfig) -> bool:
        """Whether the final decay is over."""
        return 0 <= self.finish_from <= self.step - (self.decay or config.decay)

    def save(self, path: Path) -> None:
        """Write a checkpoint (safetensors) aside and put it in place."""
        tensors = {f"buffer.{k}": v for k, v in self.network.named_buffers()}
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
                for name, buffer in module.named_buffers():
                    older = tensors.get("mean") if name == "mean" else None
                    buffer.copy_(tensors[f"buffer.{name}"] if older is None else older)
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
        config.linear,
        coarse=config.coarse,
        gains=config.gains,
    )


def start(config: TrainConfig, kind: Family) -> State:
    """Return a fresh state: weights drawn from the seed, or those of the prior `config.init`.

    The optimiser starts anew either way, for a prior's file holds averaged weights alone.
    """
    torch.manual_seed(stream_seed(config.seed, "weights") % 2**31)
    spec = spec_of(config, kind)
    ends = (config.sigma_min / 2, config.sigma_max * 2)
    device = chosen(config.device)
    network, ema = (
        EDMNetwork(spec, config.sigma_data, ends).to(device).to(memory_format=torch.channels_last)
        for _ in range(2)
    )
    if config.init:
        network.load_state_dict(known_weights(config, spec))
    ema.load_state_dict(network.state_dict())
    return State(network, ema, torch.optim.Adam(network.parameters(), config.rate, (0.9, 0.99)))


def known_weights(config: TrainConfig, spec: NetworkSpec) -> dict[str, Tensor]:
    """Return the weights that a run starts from, of the network `init_network` of `config.init`.

    Raises:
        PriorError: The prior has no such network, of another kind, or for another scale.
    """
    assert config.init is not None
    prior = files.load(config.init)
    roles = ("network", *(role for role, _ in prior.uppers()))
    if config.init_network not in roles:
        raise PriorError(
            "The prior to start from has no such network",
            where=f"{config.init}: init_network",
            expected=", ".join(roles),
            got=config.init_network,
            remedy="name one of these as `init_network`, or leave `init` out",
        )
    found = getattr(prior, config.init_network)
    # blocks of another side need no other weights: the network then sees another scale
    same = replace(found.spec, coarse=spec.coarse) == spec
    if not same or found.sigma_data != config.sigma_data:
        raise PriorError(
            "The network to start from is of another kind",
            where=f"{config.init}: {config.init_network}",
            expected=f"{spec}, sigma_data {config.sigma_data}",
            got=f"{found.spec}, sigma_data {found.sigma_data}",
            remedy="write its sizes into the training configuration, or leave `init` out",
        )
    return dict(found.state_dict())


def rate_at(config: TrainConfig, step: int, finish_from: int, decay: int = 0) -> float:
    """Return the learning rate: linear rise, plateau, (1 − √progress) decay once finishing."""
    rate = config.rate * min((step + 1) / config.warmup, 1.0)
    if finish_from >= 0:
        rate *= 1 - math.sqrt(min((step - finish_from) / (decay or config.decay), 1.0))
    return rate
