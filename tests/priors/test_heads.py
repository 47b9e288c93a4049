"""Whole heads: people are on one side only, slices are what the labels say, shapes are declared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.errors import ConfigError, DataError
from sciinv.priors.phantoms import family, head_sources, heads

nibabel = pytest.importorskip("nibabel")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Balls of skin, skull, liquor and white matter, in place of heads that are not shipped."""
    top = tmp_path_factory.mktemp("mri")
    for name in ("labels", "ms"):
        (top / "heads" / name).mkdir(parents=True)
    axes = np.meshgrid(*[np.arange(n) - n / 2 for n in (96, 110, 80)], indexing="ij")
    r = np.sqrt(sum(a.astype(float) ** 2 for a in axes))
    labels = np.select([r < 22, r < 27, r < 31, r < 37], [2, 24, 515, 511], 0).astype(np.float32)
    for number in (1, 17):
        image = nibabel.Nifti1Image(labels, np.eye(4))
        nibabel.save(image, top / f"heads/labels/training_seg_{number:02d}.nii.gz")
    for name in ("patient01_a", "patient20_a"):
        image = nibabel.Nifti1Image(100 * (r < 37).astype(np.float32)[::2, ::2, ::4],
                                    np.diag([2.0, 2.0, 4.0, 1.0]))  # fmt: skip
        nibabel.save(image, top / f"heads/ms/{name}.nii.gz")
    return top


@pytest.fixture(scope="module")
def cohort(folder) -> head_sources.Cohort:
    return head_sources.read_heads(str(folder))


class TestPeople:
    def test_are_trained_on_or_held_out(self, cohort):
        assert [len(side.labels) for side in (cohort.trained, cohort.held)] == [1, 1]
        assert [len(side.clinical) for side in (cohort.trained, cohort.held)] == [1, 1]

    def test_block_zero_is_of_those_who_are_held_out(self, cohort, monkeypatch):
        sides = []
        kind = family("heads")
        monkeypatch.setattr(
            heads, "_of_labels", lambda rng, head: sides.append(head) or np.ones(heads.CANVAS)
        )
        monkeypatch.setattr(heads, "_of_clinical", heads._of_labels)
        kind.pool(1, 0, 3, cohort)
        kind.pool(1, 4, 3, cohort)
        held = {id(h) for h in (*cohort.held.labels, *cohort.held.clinical)}
        assert all(id(s) in held for s in sides[:3])
        assert not any(id(s) in held for s in sides[3:])

    def test_missing_folders_say_what_belongs_there(self, tmp_path):
        with pytest.raises(DataError, match="heads/labels"):
            head_sources.read_heads(str(tmp_path))
        with pytest.raises(ConfigError, match="source"):
            head_sources.read_heads(None)


class TestSlices:
    def test_tissues_have_their_intensities_and_air_is_empty(self, cohort, monkeypatch):
        values = np.zeros(13)
        values[[heads.WHITE, heads.LIQUOR, heads.SKIN]] = 0.5, 1.0, 0.8
        monkeypatch.setattr(heads, "_intensities", lambda rng: values)
        monkeypatch.setattr(heads, "_texture", lambda rng, sd: np.zeros(heads.CANVAS))
        image = heads._of_labels(np.random.default_rng(3), cohort.trained.labels[0])
        assert image.shape == heads.CANVAS
        assert image[:20].max() == 0
        assert image.max() == pytest.approx(1.0, abs=0.35)  # each label's own 10 %
        assert (image > 0.3).sum() > 1000

    def test_equal_keys_equal_images(self, cohort):
        kind = family("heads")
        a, b = (kind.pool(5, 2, 3, cohort) for _ in range(2))
        assert torch.equal(a, b)
        assert a.shape == (3, 1, *heads.CANVAS)
        assert bool(torch.isfinite(a).all())

    @pytest.mark.parametrize("name", ["heads", "head-crops"])
    def test_augmented_images_have_the_declared_shape_and_magnitude(self, cohort, name):
        kind = family(name)
        pool = kind.pool(5, 2, 4, cohort).float()
        out = kind.augment(pool, torch.Generator().manual_seed(0))
        assert out.shape == (4, *kind.shape)
        assert out.norm(dim=1).max() <= pool.max() + 1e-5

    def test_training_batches_vary_in_size_and_lie_on_their_side(self):
        kind = family("heads")
        shapes = {
            tuple(kind.vary(torch.zeros(1, *kind.shape), torch.Generator().manual_seed(k)).shape)
            for k in range(20)
        }
        assert len(shapes) > 4
        assert any(s[-1] > s[-2] for s in shapes)


def test_some_batches_of_the_widest_family_are_crops_and_the_others_whole_heads():
    batch = torch.arange(232 * 184.0).reshape(1, 1, 232, 184).expand(3, 2, -1, -1)
    found = [heads.vary_widely(batch, torch.Generator().manual_seed(seed)) for seed in range(30)]
    crops = [x for x in found if x.shape[-2:] == (96, 96)]
    assert 3 <= len(crops) <= 18  # a third of 30; 99.9 % of binomial draws
    assert all(max(x.shape[-2:]) >= 200 for x in found if x.shape[-2:] != (96, 96))
    # neighbours of a crop are neighbours in the image, and each image is cut elsewhere
    assert all(bool((x[..., 1:, :] - x[..., :-1, :] == 184).all()) for x in crops)
    assert any(float(x[0, 0, 0, 0]) != float(x[1, 0, 0, 0]) for x in crops)
