"""What is needed to build a learned prior's networks again, and their units."""

from __future__ import annotations

from dataclasses import dataclass

UPPER = ("high", "middle", "coarse")  # the networks above the one for low σ, in rising order


@dataclass(frozen=True)
class NetworkSpec:
    """What is needed to build the network again.

    Attributes:
        channels: Image channels.
        nc: Feature channels at the four scales.
        nb: Residual blocks per scale.
        patch: Side of the pixel blocks that are folded into channels (1, 2, 4, …).
        highpass: Also show F the image's fine structure in units of σ. At small σ the target of F
            is the noise magnified to unit variance; without this F must learn the magnification.
        mean_size: (H, W) of the mean image of the class, which F is then shown too, or None. It
            tells F where it is, and what to return where nothing can be seen through the noise.
        phase: Take the slow phase off a complex image (channels real, imaginary) before F and put
            it back after, so that D(e^{iθ} x, σ) = e^{iθ} D(x, σ) whatever the weights.
        turn: Take one constant phase off instead. In strong noise the slow phase is itself noise,
            which F could not undo; the phase of the strongest slow waves is not.
        linear: Let D be the class's Wiener filter plus what F adds (see `learned.linear`).
        apart: F is a network of one channel, shown the channels one by one.
        coarse: F sees and returns means over blocks of this side, brought back to the pixels by
            bilinear interpolation. In strong noise nothing finer shows, and F costs coarse² less.
        gains: F returns real factors of so many octave bands of the filtered image, and sees their
            magnitudes alone; with `phase` it adds to them too, in the frame of the filtered image's
            phase (see `learned.gains`); with `linear`, `coarse` and `phase` alone. 0: none.
    """

    channels: int = 1
    nc: tuple[int, int, int, int] = (32, 64, 128, 128)
    nb: int = 2
    patch: int = 2
    highpass: bool = False
    mean_size: tuple[int, int] | None = None
    phase: bool = False
    turn: bool = False
    linear: bool = False
    apart: bool = False
    coarse: int = 1
    gains: int = 0


@dataclass(frozen=True)
class HighSpec:
    """A second network for the high noise levels alone.

    Where only coarse structure shows through the noise, a network on large pixel blocks sees more
    of the image for the same work, and learns those levels without giving anything up elsewhere.

    Attributes:
        network: What is needed to build it.
        above: The least σ that it serves, units of u.
        alone: σ from which it serves alone; between `above` and it both serve, and D is blended
            smoothly in ln σ. 0: there is no blend, it serves from `above` alone.
    """

    network: NetworkSpec
    above: float
    alone: float = 0.0


@dataclass(frozen=True)
class Preconditioning:
    """Constants of the network's own units u; physical values are x = offset + scale·u.

    Attributes:
        sigma_data: Root mean square of u over the class.
        sigma_min: Smallest σ at which the network was trained well, units of u.
        sigma_max: Largest σ to start an annealing from, units of u.
        offset: Physical value of u = 0.
        scale: Physical value of one unit of u.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.01
    sigma_max: float = 30.0
    offset: float = 0.0
    scale: float = 1.0
