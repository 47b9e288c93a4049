"""Images for a trial of `sciinv train`: python docs/studies/trial_gravel.py FOLDER.

375 crops of 64 × 64 pixels of the photograph of gravel that ships with scikit-image (512 × 512): 25
overlapping ones of each of 15 tiles that do not overlap. That is one photograph, not 375
independent images. Grey values 0–255 are taken for attenuations of 0–0.05 per pixel. A sixteenth
tile is left out; of its middle a sinogram of 60 views with noise of 1 % of the largest line
integral is SIMULATED. Writes FOLDER/images (subjectNN_MM.npy), FOLDER/gravel.npz (the sinogram) and
FOLDER/truth.npy. Then, in FOLDER (P is
gravel.safetensors; without the pixel's side the image is spread over the whole detector):

    sciinv train images --hours 0.5 --units 1/pixel --output gravel.safetensors
    sciinv init gravel.npz --option image_size=64 --option pixel_mm=1 --prior P --yes
    sciinv run --config run.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from sciinv import operators

TILE, SIDE, STEP = 128, 64, 16
VALUE = 0.05 / 255  # attenuation per grey value, 1/pixel


def prepare(folder: Path) -> None:
    """Write images, sinogram and truth."""
    from skimage.data import gravel

    photograph = gravel().astype(np.float32) * VALUE
    (folder / "images").mkdir(parents=True)
    corners = [(y, x) for y in range(0, 512, TILE) for x in range(0, 512, TILE)]
    places = range(0, TILE - SIDE + 1, STEP)
    for number, (top, left) in enumerate(corners[:-1]):
        tile = photograph[top : top + TILE, left : left + TILE]
        crops = [tile[y : y + SIDE, x : x + SIDE] for y in places for x in places]
        for k, crop in enumerate(crops):
            np.save(folder / f"images/subject{number:02d}_{k:02d}.npy", crop)
    top, left = (c + (TILE - SIDE) // 2 for c in corners[-1])
    truth = photograph[top : top + SIDE, left : left + SIDE]
    np.save(folder / "truth.npy", truth)
    angles = np.arange(60) * 3.0
    physics = operators.load("ct", angles=angles, image_size=SIDE, pixel_mm=1.0, detectors=92,
                             detector_mm=1.0)  # fmt: skip
    clean = physics.A(torch.from_numpy(truth)[None, None])[0, 0].numpy()
    noise = np.random.default_rng(0).standard_normal(clean.shape) * 0.01 * clean.max()
    np.savez(folder / "gravel.npz", sinogram=(clean + noise).astype(np.float32), angles=angles)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
