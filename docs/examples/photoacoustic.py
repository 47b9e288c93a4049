"""Photoacoustic tomography: detectors on a half circle hear the flash-heated object x (kPa)."""

import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv.operators.base import Declared, ImageSpec, MeasurementSpec


class Photoacoustic(Declared, LinearPhysics):
    def __init__(self, size=64, pixel_mm=0.1, detectors=32, noise_sd=0.1):
        super().__init__(noise_model=GaussianNoise(noise_sd), img_size=(1, size, size))
        axis, turn = np.arange(size) - (size - 1) / 2, np.linspace(0, np.pi, detectors)[:, None]
        place = size * np.stack([np.cos(turn), np.sin(turn)])[..., None]  # of detectors, in pixels
        r = np.hypot(axis - place[0], axis[:, None] + place[1])  # [detector, H, W]
        k = r.astype(int)  # a pixel lies between the circles k and k + 1: each has its share
        shape = detectors, int(k.max()) + 2
        row = k + shape[1] * np.arange(detectors)[:, None, None]
        self.register_buffer("row", torch.as_tensor(np.stack([row, row + 1])))
        self.register_buffer("weight", torch.as_tensor(pixel_mm * np.stack([k + 1 - r, r - k])))
        self.image_spec = ImageSpec((1, size, size), "kPa", -pixel_mm * axis, pixel_mm * axis, "mm")
        self.measurement_spec = MeasurementSpec(("detector", "circle"), shape, "kPa mm")

    def A(self, x):  # y[s, k] = ∫ x over the circle of radius k · pixel_mm around detector s
        y = x.new_zeros(len(x), int(np.prod(self.measurement_spec.shape)))
        y = y.index_add(1, self.row.flatten(), (x[:, None] * self.weight.to(x)).flatten(1))
        return y.unflatten(1, self.measurement_spec.shape)

    def A_adjoint(self, y):  # the exact transpose: back-projection along the circles
        return (y.flatten(1)[:, self.row] * self.weight.to(y)).sum((1, 2))[:, None]
