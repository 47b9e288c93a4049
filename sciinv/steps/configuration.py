"""The file that init writes: a configuration with the reason of each choice above it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from sciinv.config import Config
from sciinv.config.paths import CONFIG_FOLDER
from sciinv.errors import ConfigError
from sciinv.steps.propose import Proposal
from sciinv.store.atomic import write_file


def write(
    proposals: Sequence[Proposal], path: str | Path, name: str, *, overwrite: bool = False
) -> Path:
    """Write the configuration of these problems, with comments, and check it.

    Raises:
        ConfigError: The file is there already, or what was written is not allowed.
    """
    out = Path(path)
    if out.exists() and not overwrite:
        raise ConfigError(
            "The configuration is there already",
            where=out,
            expected="a new name",
            got="a file",
            remedy="choose another with -o, or replace it with --overwrite",
        )
    text = configuration(proposals, out, name)
    before = os.environ.get(CONFIG_FOLDER)
    os.environ[CONFIG_FOLDER] = str(out.absolute().parent)
    try:
        Config.of_mapping(yaml.safe_load(text), where=out)
    finally:
        os.environ.pop(CONFIG_FOLDER)
        if before is not None:
            os.environ[CONFIG_FOLDER] = before
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, text.encode())
    return out


def configuration(proposals: Sequence[Proposal], out: Path, name: str) -> str:
    """Return the YAML text: each choice below a comment that says why."""
    lines = [
        f"# Written by `sciinv init`; run it with `sciinv run --config {out}`.",
        "# Every key: workflows/schemas/config.schema.yaml; what a reader sees: `sciinv inspect`.",
        "run:",
        f"  name: {name}  # results/{name} holds everything",
        "  seed: 0  # of every random number",
        "",
        "problems:",
    ]
    taken: set[str] = set()
    for proposal in proposals:
        key = proposal.name
        while key in taken:
            key = f"{key}-{len(taken) + 1}"
        taken.add(key)
        lines += [f"  {key}:", *_block(_placed(proposal, out)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _block(proposal: Proposal) -> list[str]:
    problem = proposal.problem()
    seen, image = proposal.seen, proposal.seen.image
    assert image is not None
    assert seen.dataset is not None
    sizes = " × ".join(f"{n} {k}" for k, n in seen.dataset["y"].sizes.items() if k != "item")
    how = "told by its content" if seen.guessed else "as asked"
    comments = {
        "data": [f"{sizes}; reader {how}", *proposal.notes,
                 *(f"doubt of the reader: {w}" for w in seen.warnings)],
        "prior": [f"{list(image.shape)} in {image.units}: {proposal.why}.",
                  *(f"does not fit: {o}" for o in proposal.others)],
        "sampler": ["How many draws are computed together." if proposal.learned
                    else "A Gaussian prior has exact draws."],
        "items": [f"Of the file's {seen.items}, from the first."],
        "draws": ["The 5 % and 95 % quantiles want 19 draws or more; shards: draws of one job."],
    }  # fmt: skip
    out = []
    for key, value in problem.items():
        out += [f"    # {line}" for text in comments.get(key, ()) for line in text.split("\n")]
        if key != "data":
            out.append(f"    {key}: {_flow(value)}")
            continue
        dumped = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=2**16)
        out += [f"    {line}" for line in dumped.rstrip().split("\n")]
    return out


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=2**16,
                          default_flow_style=True)  # fmt: skip
    return text.removesuffix("...\n").strip()


def _placed(proposal: Proposal, out: Path) -> Proposal:
    """Return the proposal with paths that the configuration's folder finds wherever it runs."""
    folder = out.absolute().parent

    def placed(path: str) -> str:
        if not Path(path).exists():
            return path  # shipped: found in the checkout or the installed package
        full = Path(path).absolute()
        return str(full.relative_to(folder)) if full.is_relative_to(folder) else str(full)

    data = proposal.seen.data
    path = data.path
    moved = placed(path) if isinstance(path, str) else tuple(placed(p) for p in path or ())
    prior = placed(proposal.prior) if isinstance(proposal.prior, str) else proposal.prior
    seen = replace(proposal.seen, data=replace(data, path=moved))
    return replace(proposal, seen=seen, prior=prior)
