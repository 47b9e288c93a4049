"""How much better than a Wiener filter a shipped prior is in strong noise, with its coarse expert.

    python docs/studies/high_noise.py errors mri FOLDER     heads of people who were not trained on
    python docs/studies/high_noise.py errors ct             discs that were not trained on
    python docs/studies/high_noise.py errors mri FOLDER --seen    people trained on, other slices
    python docs/studies/high_noise.py errors mri FOLDER --before FILE    beside an earlier file
    python docs/studies/high_noise.py join mri EXPERT ABOVE ALONE FOLDER
    python docs/studies/high_noise.py middle mri NETWORK ABOVE ALONE FOLDER --coarse ABOVE ALONE
    python docs/studies/high_noise.py people mri FOLDER --network FILE --middle FILE --coarse FILE
    python docs/studies/high_noise.py heads mri PICTURE    whole heads of the whole prior
    python docs/studies/high_noise.py page mri PICTURE    whole heads of the expert alone

FOLDER holds heads/labels, heads/ms and anat/colin27_ch2.nii.gz (data/PROVENANCE.md). `errors`
prints the root mean square error per pixel of the networks below the expert and of the whole
prior, each divided by that of the best linear filter of the class (mean and two-dimensional
spectrum of 384 images of people trained on); ± is its standard error over the images.
`--seen` is what the levels of the blend are chosen on. `join` writes the expert of `sciinv train
workflows/configs/train-mri-coarse.yaml` into data/priors/mri.safetensors, `middle` the network of
train-mri-middle.yaml between the expert and the one for low σ, with other levels of the
expert's blend where `--coarse` gives them. Both measure the widths of the levels from ABOVE on
anew, on the page of samples, which they draw again. `people` puts the networks of `sciinv train
workflows/configs/train-mri-people.yaml`, train-mri-middle-longer.yaml and
train-mri-coarse-further.yaml in the places of the one for low σ, of the middle one and of the
expert, those that are given, with the blends as they are, measures every width anew, the local ones
on 160 own draws, and draws the page of samples again.
`page` draws 64 whole images by the coarse expert alone, from the largest σ to the least that it
serves, and shows its estimate there at half size: what is left for the networks below to draw is
finer. `heads` draws them by the whole prior.
One core, from the repository's root.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sciinv.arithmetic import fixed_arithmetic
from sciinv.priors.learned import evaluation, files
from sciinv.priors.learned.coarse import join
from sciinv.priors.learned.copies import remade, with_network
from sciinv.priors.learned.network import LearnedPrior
from sciinv.priors.phantoms import family
from sciinv.priors.widths import local, stationary
from sciinv.priors.widths.fit import add_local

REPO = Path(__file__).resolve().parents[2]
SEED = 78  # no training's
PEOPLE = 83  # of the training on people, whose block 9001 was not reached
SIGMAS = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0)
FAMILIES = {"mri": ("heads", "head-crops", "brains"), "ct": ("discs",)}
OWN = {"mri": "head-crops", "ct": "discs"}  # at the size of the prior's training images


def below(prior: LearnedPrior) -> LearnedPrior:
    """Return the prior without the networks that were trained on people; weights are shared."""
    return remade(prior, coarse=None, middle=None)


def images(kind: str, source: object, count: int, block: int) -> Tensor:
    """Return clean images in units of u; block 0: people who are held out."""
    chosen = family(kind)
    stream = torch.Generator().manual_seed(SEED + block)
    return chosen.augment(chosen.pool(SEED, block, count, source).float(), stream)


def ratios(
    priors: dict[str, LearnedPrior], x0: Tensor, known: Tensor, sigmas: tuple[float, ...]
) -> None:
    """Print a row per noise level; the columns are the priors' errors over the filter's."""
    wiener = evaluation.Wiener.of_images(known)
    named = "".join(f" {name} ÷ filter |" for name in priors)
    print(f"| σ, u | Wiener filter, u |{named}\n|---|---|{'---|' * len(priors)}")
    for n, sigma in enumerate(sigmas):
        noise = torch.Generator().manual_seed(SEED + n)
        squares: dict[str, list[Tensor]] = {name: [] for name in ("wiener", *priors)}
        for x in x0.split(8):
            y = x + sigma * torch.randn(x.shape, generator=noise)
            s = torch.full((len(x),), sigma)
            with torch.no_grad():
                found = {"wiener": wiener(y, s)}
                for name, p in priors.items():
                    u = p(p.offset + p.scale * y, p.scale * sigma)
                    found[name] = (u - p.offset) / p.scale
            for name, d in found.items():
                squares[name].append((d - x).double().square().mean((1, 2, 3)))
        mean = {name: torch.cat(v) for name, v in squares.items()}
        row = [f"{sigma:g}", f"{mean['wiener'].mean().sqrt():.4f}"]
        for name in priors:
            ratio = mean[name].mean() / mean["wiener"].mean()
            # error of a ratio of means over images, halved by the root
            spread = (mean[name] - ratio * mean["wiener"]).std() / len(x0) ** 0.5
            row.append(
                f"{ratio.sqrt():.3f} ± {spread / mean['wiener'].mean() / 2 / ratio.sqrt():.3f}"
            )
        print("| " + " | ".join(row) + " |", flush=True)


@fixed_arithmetic()
def errors(
    name: str, folder: str | None, seen: bool, count: int, before: str | None,
    sigmas: tuple[float, ...], kinds: tuple[str, ...], filtered: int,
) -> None:  # fmt: skip
    """Print the tables of one prior."""
    prior = files.load(REPO / f"data/priors/{name}.safetensors")
    first = {"before": files.load(before)} if before else {"below the expert": below(prior)}
    both = {**first, "now" if before else "with it": prior}
    sources: dict[str | None, object] = {}  # people are read once
    for kind in kinds or FAMILIES[name]:
        # the first two networks' class is made from one head alone
        where = f"{folder}/anat/colin27_ch2.nii.gz" if folder and kind == "brains" else folder
        if where not in sources:
            sources[where] = family(kind).source(where)
        source = sources[where]
        known = images(kind, source, filtered, 1)
        x0 = images(kind, source, count, 2 if seen else 0)
        print(f"\n{kind}, {count} images {tuple(x0.shape[1:])}", flush=True)
        ratios(both, x0, known, sigmas)


def put(
    prior: LearnedPrior, role: str, file: str, levels: tuple[float, float],
    coarse: tuple[float, float] | None,
) -> LearnedPrior:  # fmt: skip
    """Return the prior with the network of a file in its place, and the levels of the blends."""
    if role == "coarse":
        return join(prior, files.load(file), *levels)
    out = with_network(prior, "middle", files.load(file), *levels)
    # what the network for high noise would still have a small share in, the one below it takes
    known = {k: v for k, v in out.metadata.items() if k != "training_high"}
    out = remade(out, high=None, metadata=known)
    if coarse is None:
        return out
    assert prior.coarse_spec is not None
    moved = remade(out, coarse=replace(prior.coarse_spec, above=coarse[0], alone=coarse[1]))
    moved.coarse.load_state_dict(prior.coarse.state_dict())
    return moved


def remeasure(prior: LearnedPrior, x0: Tensor, least: float, seed: int) -> Tensor:
    """Measure widths from a level on anew, and return the 64 own images of the local ones.

    Args:
        prior: With the weights as stored; it takes the new widths.
        x0: Clean images for the stationary widths, physical units.
        least: The level, units of u.
        seed: Of noise and own images.
    """
    assert prior.widths is not None
    assert prior.local is not None
    above = prior.scale * least
    prior.widths = stationary.remeasured(prior.widths, prior, x0, above, seed=seed)
    own = evaluation.unconditional(prior, 64, prior.train_shape, seed=seed)
    prior.local = local.refitted(prior.local, prior, own, above, count=96, seed=seed)
    prior.metadata["local_above"] = {"sigma": least, "images": len(own), "seed": seed}
    return own


@fixed_arithmetic()
def combine(
    name: str, role: str, file: str, levels: tuple[float, float],
    coarse: tuple[float, float] | None, folder: str | None, least: float,
) -> None:  # fmt: skip
    """Write the network into the prior's file, and the widths from the level `least` on anew."""
    path = REPO / f"data/priors/{name}.safetensors"
    prior = put(files.load(path), role, file, levels, coarse)
    files.save(prior, path, storage=torch.float16)
    prior = files.load(path)  # widths are those of the weights as stored
    kind = family(OWN[name])
    c = prior.constants
    x0 = c.offset + c.scale * images(kind.name, kind.source(folder), 96, 2)
    own = remeasure(prior, x0, least, SEED)
    evaluation.picture(own, path.with_name(f"{name}-samples.png"))
    files.save(prior, path, storage=torch.float16)
    print("\n".join(evaluation.uppers(prior)))


@fixed_arithmetic()
def people(
    name: str, folder: str, network: str | None, middle: str | None, coarse: str | None
) -> None:
    """Write networks into the prior's file, its widths anew, and the page of samples."""
    path = REPO / f"data/priors/{name}.safetensors"
    before = files.load(path)
    assert before.widths is not None
    prior = before
    if network is not None:
        trained = files.load(network)
        prior = with_network(prior, "network", trained)
        prior.metadata["data"] = trained.metadata["data"]
    for role, file in (("middle", middle), ("coarse", coarse)):
        spec = getattr(prior, f"{role}_spec")
        if file is not None and spec is not None:
            prior = put(prior, role, file, (spec.above, spec.alone), None)
    prior.metadata.pop("local_above", None)
    files.save(prior, path, storage=torch.float16)
    prior = files.load(path)  # widths are those of the weights as stored
    kind = family(OWN[name])
    stream = torch.Generator().manual_seed(PEOPLE)
    u = kind.augment(kind.pool(PEOPLE, 9001, 256, kind.source(folder)).float(), stream)
    c = prior.constants
    prior.widths = stationary.measure(
        prior, c.offset + c.scale * u, before.widths.sigmas, seed=PEOPLE
    )
    files.save(prior, path, storage=torch.float16)
    add_local(path, images=160, say=print)
    prior = files.load(path)
    own = evaluation.unconditional(prior, 64, prior.train_shape, seed=SEED)
    evaluation.picture(own, path.with_name(f"{name}-samples.png"))


@fixed_arithmetic()
def page(name: str, path: Path) -> None:
    """Draw whole images by the coarse expert alone."""
    prior = files.load(REPO / f"data/priors/{name}.safetensors")
    assert prior.coarse_spec is not None
    shape = family(FAMILIES[name][0]).shape
    constants = replace(prior.constants, sigma_min=prior.coarse_spec.above)
    expert = LearnedPrior(prior.coarse_spec.network, constants, train_shape=shape)
    expert.network = prior.coarse
    drawn = evaluation.unconditional(expert, 64, shape, seed=SEED, batch=8)
    evaluation.picture(F.avg_pool2d(drawn, 2), path)


@fixed_arithmetic()
def heads(name: str, path: Path, count: int) -> None:
    """Draw whole images by the whole prior."""
    prior = files.load(REPO / f"data/priors/{name}.safetensors")
    drawn = evaluation.unconditional(
        prior, count, family(FAMILIES[name][0]).shape, seed=SEED, batch=8
    )
    evaluation.picture(F.avg_pool2d(drawn, 2), path)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = words.add_subparsers(dest="what", required=True)
    one = what.add_parser("errors")
    one.add_argument("name", choices=sorted(FAMILIES))
    one.add_argument("folder", nargs="?")
    one.add_argument("--seen", action="store_true")
    one.add_argument("--images", type=int, default=48)
    one.add_argument("--before")
    one.add_argument("--sigmas", type=float, nargs="+", default=SIGMAS)
    one.add_argument("--families", nargs="+", default=())
    one.add_argument("--filter", type=int, default=384, help="images of the filter's spectrum")
    for command in ("join", "middle"):
        two = what.add_parser(command)
        two.add_argument("name", choices=sorted(FAMILIES))
        two.add_argument("file")
        two.add_argument("above", type=float)
        two.add_argument("alone", type=float)
        two.add_argument("folder", nargs="?")
        if command == "middle":
            two.add_argument("--coarse", type=float, nargs=2)
    four = what.add_parser("people")
    four.add_argument("name", choices=sorted(FAMILIES))
    four.add_argument("folder")
    for role in ("network", "middle", "coarse"):
        four.add_argument(f"--{role}", help="file of the network that takes this place")
    for command in ("page", "heads"):
        three = what.add_parser(command)
        three.add_argument("name", choices=sorted(FAMILIES))
        three.add_argument("picture", type=Path)
        if command == "heads":
            three.add_argument("--images", type=int, default=64)
    args = words.parse_args()
    if args.what == "errors":
        errors(args.name, args.folder, args.seen, args.images, args.before, tuple(args.sigmas),
               tuple(args.families), args.filter)  # fmt: skip
    elif args.what == "people":
        people(args.name, args.folder, args.network, args.middle, args.coarse)
    elif args.what == "page":
        page(args.name, args.picture)
    elif args.what == "heads":
        heads(args.name, args.picture, args.images)
    else:
        role = "middle" if args.what == "middle" else "coarse"
        coarse = getattr(args, "coarse", None)
        combine(args.name, role, args.file, (args.above, args.alone),
                None if coarse is None else tuple(coarse), args.folder, args.above)  # fmt: skip
