"""An operator from a plain function whose derivative nobody knows: an external simulator, say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.likelihoods import Likelihood
from sciinv.operators.base import Declared, ImageSpec, MeasurementSpec


class FromFunction(Declared, Physics):
    """y ~ p(y | f(x)) with f any function of one NumPy image; no derivative is asked of it.

    It says `differentiable = False`: `kernel="auto"` takes central differences where the image has
    up to 256 pixels and the Metropolis kernel, which needs no derivative, beyond.

    Args:
        function: Takes one image [C, H, W] float64 in the units of `image`, and returns its
            noiseless measurement, an array of the shape of `measurement`. It is called once per
            image and must give equal results for equal images.
        image: The image that it takes.
        measurement: What it returns.
        likelihood: The noise of y about f(x), see `sciinv.likelihoods`.

    Raises:
        OperatorError: The function failed, or returned another shape or a value that is not finite.
    """

    differentiable = False

    def __init__(
        self,
        function: Callable[[np.ndarray], Any],
        image: ImageSpec,
        measurement: MeasurementSpec,
        likelihood: Likelihood,
    ) -> None:
        super().__init__()
        self.function = function
        self.image_spec, self.measurement_spec = image, measurement
        self.likelihood = likelihood

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return f of each image; x [B, C, H, W] to [B, *measurement shape], dtype of x."""
        if kwargs:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(kwargs))}")
        self.check_image(x)
        images = x.detach().cpu().double().numpy()
        values = np.stack([self._one(image) for image in images])
        return torch.from_numpy(values).to(x)

    def _one(self, image: np.ndarray) -> np.ndarray:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        try:
            value = np.asarray(self.function(image.copy()), dtype=np.float64)
        except Exception as error:  # whatever an outside simulator raises
            raise OperatorError(
                "The function of an operator failed",
                where=name,
                got=f"{type(error).__name__}: {error}",
                remedy="call it by hand on an image of zeros",
            ) from error
        wanted = tuple(self.measurement_spec.shape)
        if value.shape != wanted or not np.isfinite(value).all():
            raise OperatorError(
                "The function of an operator returned what is no measurement",
                where=name,
                expected=f"finite numbers of shape {list(wanted)}",
                got=f"shape {list(value.shape)}, {int((~np.isfinite(value)).sum())} not finite",
                remedy="check the function against the measurement's declaration",
            )
        return value
