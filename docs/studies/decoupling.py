"""Make docs/pictures/decoupling.png and print its figures: python docs/studies/decoupling.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from sciinv.calibration import sliced_wasserstein
from sciinv.calibration.benchmark import plane
from sciinv.plots.style import FOUND, STYLE, png

DRAWS = 1000
PICTURE = Path(__file__).resolve().parents[1] / "pictures" / "decoupling.png"


def main() -> None:
    """Draw the samplers one beside the other."""
    torch.set_num_threads(1)
    prior, _, _ = plane.problem()
    reference, second = plane.exact(DRAWS, 1), plane.exact(DRAWS, 2)
    shown = {"exact posterior (grid)": second}
    for name, sampler in plane.samplers(prior, DRAWS).items():
        shown[name] = plane.draw(sampler, DRAWS)
    axis, p = plane.density()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, 3, figsize=(9.0, 6.3), sharex=True, sharey=True, layout="constrained"
        )
        for a, (name, x) in zip(axes.ravel(), shown.items(), strict=True):
            distance = sliced_wasserstein(x, reference)
            print(f"{name}: {distance:.3f}", flush=True)
            a.contourf(axis, axis, p.mT, levels=12, cmap="Greys")
            a.plot(*x.mT, ".", ms=2.5, alpha=0.5, mew=0, color=FOUND)
            a.set(title=f"{name}\ndistance ÷ sd {distance:.2f}", aspect="equal")
            a.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), xticks=(-2, 0, 2), yticks=(-2, 0, 2))
        for a in axes[1]:
            a.set_xlabel("$x_1$")
        for a in axes[:, 0]:
            a.set_ylabel("$x_2$")
        PICTURE.write_bytes(png(figure))


if __name__ == "__main__":
    main()
