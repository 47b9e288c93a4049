"""Learned priors and their files: exact round trips, and a clear word on every kind of damage."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sciinv.errors import PriorError
from sciinv.priors.learned import files
from sciinv.priors.learned.network import EDMNetwork, LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.widths import FittedWidths

SPEC = NetworkSpec(channels=2, nc=(8, 8, 8, 16), nb=1, patch=2)
CONSTANTS = Preconditioning(0.5, 0.01, 20.0, offset=0.1, scale=0.02)


@pytest.fixture(scope="module")
def prior() -> LearnedPrior:
    torch.manual_seed(0)
    sigmas = torch.logspace(-3.5, -0.5, 5, dtype=torch.float64)
    widths = FittedWidths(
        sigmas, sigmas**2 / 3, (sigmas**2 / 3)[:, None].repeat(1, 4), torch.arange(4).double() / 6
    )
    return LearnedPrior(
        SPEC,
        CONSTANTS,
        train_shape=(2, 32, 32),
        units="mT",
        name="toy",
        inflate=3.0,
        widths=widths,
        metadata={"training": {"seed": 3}, "version": "0"},
    )


@pytest.fixture
def x() -> torch.Tensor:
    return 0.1 + 0.02 * torch.randn(3, 2, 40, 24, generator=torch.Generator().manual_seed(1))


def rewrite(path, change):
    """Read the header and tensors of a file, change them, and write them back."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[files.KEY])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, metadata={files.KEY: json.dumps(header)})


class TestNetwork:
    def test_the_network_is_deepinvs_drunet(self, x):
        # With unfolded pixels and a size DRUNet takes as it is, ours is one call of its forward.
        torch.manual_seed(0)
        ours = EDMNetwork(NetworkSpec(2, (8, 8, 8, 16), 1, patch=1), 0.5, (0.01, 10.0))
        x = x[..., :32, :24].repeat(1, 1, 2, 2)[..., :32, :40]
        sigma = torch.full((3, 1, 1, 1), 0.3)
        level = (sigma.log() / 4).expand(-1, 1, 32, 40)
        theirs = ours.unet(torch.cat([x, level], 1), 1.0)
        torch.testing.assert_close(ours.raw(x, sigma), theirs, rtol=0, atol=0)

    @pytest.mark.parametrize("size", [(1, 1), (3, 40), (37, 50), (64, 64)])
    def test_any_size_and_both_precisions_come_back_as_they_came(self, prior, size):
        for dtype in (torch.float32, torch.float64):
            x = torch.full((2, 2, *size), 0.1, dtype=dtype)
            out = prior(x, 0.01)
            assert out.shape == x.shape
            assert out.dtype == dtype
            assert torch.isfinite(out).all()

    def test_fine_structure_is_shown_in_units_of_sigma(self):
        # Without an image the extra channel of F is white noise less its blur: sd 0.89 at any σ.
        spec = NetworkSpec(1, (8, 8, 8, 8), 1, patch=1, highpass=True)
        network, seen = EDMNetwork(spec, 0.5, (0.001, 10.0)), []
        network.unet.m_head.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
        eps = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        for sigma in (1e-3, 1e-2, 1.0):
            network(sigma * eps, torch.full((1, 1, 1, 1), sigma))
        for channels in seen:
            # 1 − 2·36/256 + (70/256)² = 0.793; tanh takes 4 %, the sample 1 %.
            assert channels[:, 3].std().item() == pytest.approx(0.793**0.5, rel=0.06)
            torch.testing.assert_close(channels[:, 3], seen[0][:, 3], rtol=1e-4, atol=1e-4)

    def test_a_turn_of_the_phase_goes_through(self):
        torch.manual_seed(0)
        spec = NetworkSpec(2, (8, 8, 8, 8), 1, patch=2, highpass=True, phase=True)
        toy = LearnedPrior(spec, Preconditioning(0.5, 0.01, 20.0), train_shape=(2, 32, 32)).double()
        z = torch.randn(2, 2, 37, 50, generator=torch.Generator().manual_seed(1)).double()

        def turned(x):
            c, s = math.cos(0.7), math.sin(0.7)
            return torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], 1)

        torch.testing.assert_close(toy(turned(z), 0.3), turned(toy(z, 0.3)), rtol=0, atol=1e-9)

    def test_derivatives_go_through_the_phase(self):
        torch.manual_seed(0)
        spec = NetworkSpec(2, (8, 8, 8, 8), 1, patch=1, phase=True)
        toy = LearnedPrior(spec, Preconditioning(0.5, 0.01, 20.0), train_shape=(2, 32, 32)).double()
        x, v = torch.randn(2, 1, 2, 16, 16, generator=torch.Generator().manual_seed(1)).double()
        _, jv = torch.func.jvp(lambda z: toy(z, 0.3), (x,), (v,))
        h = 1e-6
        difference = (toy(x + h * v, 0.3) - toy(x - h * v, 0.3)) / (2 * h)
        # Central difference: h² of the third derivative, and kinks of ReLU within h.
        torch.testing.assert_close(jv, difference, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("highpass", [False, True])
    def test_another_patch_and_fine_structure_take_any_size(self, highpass):
        for patch in (1, 2, 4):
            spec = NetworkSpec(2, (8, 8, 8, 8), 1, patch, highpass)
            toy = LearnedPrior(spec, CONSTANTS, train_shape=(2, 32, 32))
            assert toy(torch.zeros(1, 2, 33, 20), 0.1).shape == (1, 2, 33, 20)

    def test_physical_units_are_offset_and_scale(self, prior, x):
        u = (x - 0.1) / 0.02
        expected = 0.1 + 0.02 * prior.network(u, torch.full((3, 1, 1, 1), 0.5))
        torch.testing.assert_close(prior(x, 0.01), expected, rtol=1e-6, atol=1e-7)
        assert prior.sigma_min == pytest.approx(2e-4)
        assert prior.sigma_max == pytest.approx(0.4)
        assert prior.sigma_data == pytest.approx(0.01)

    def test_sigma_may_differ_in_the_batch(self, prior, x):
        sigmas = [0.001, 0.02, 0.3]
        together = prior(x, torch.tensor(sigmas))
        for i, sigma in enumerate(sigmas):
            # Rounding of convolutions depends on the batch, hence no exact equality.
            torch.testing.assert_close(
                together[i], prior(x[i : i + 1], sigma)[0], rtol=1e-4, atol=1e-6
            )

    def test_no_noise_leaves_the_image(self, prior, x):
        torch.testing.assert_close(prior(x, 1e-9), x, rtol=0, atol=1e-7)

    @pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan"), float("inf")])
    def test_sigma_must_be_positive_and_finite(self, prior, x, sigma):
        with pytest.raises(PriorError, match="positive, finite"):
            prior(x, sigma)

    def test_wrong_channels_are_named(self, prior):
        with pytest.raises(PriorError, match=r"expected: \[B, 2, H, W\]"):
            prior(torch.zeros(1, 1, 32, 32), 0.1)

    def test_misspelt_arguments_are_errors(self, prior, x):
        with pytest.raises(TypeError, match="sigmas"):
            prior(x, 0.1, sigmas=0.2)

    def test_forward_and_reverse_derivatives_agree(self, prior, x):
        x = x.double()
        prior64 = LearnedPrior(SPEC, CONSTANTS, train_shape=(2, 32, 32)).double()
        prior64.network.load_state_dict(prior.network.state_dict())
        v, w = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(2)).double()
        _, jv = torch.func.jvp(lambda z: prior64(z, 0.01), (x,), (v,))
        _, vjp = torch.func.vjp(lambda z: prior64(z, 0.01), x)
        assert float((w * jv).sum()) == pytest.approx(float((vjp(w)[0] * v).sum()), rel=1e-9)

    def test_weights_take_no_gradient(self, prior):
        assert not any(p.requires_grad for p in prior.parameters())


class TestRoundTrip:
    def test_bits_attributes_and_widths_return(self, prior, x, tmp_path):
        files.save(prior, tmp_path / "a.safetensors")
        again = files.load(tmp_path / "a.safetensors")
        assert torch.equal(again(x, 0.01), prior(x, 0.01))
        assert again.describe() == prior.describe()
        assert (again.units, again.name, again.shape) == ("mT", "toy", None)
        assert again.inflate == 3.0
        assert again.widths is not None
        torch.testing.assert_close(
            again.widths.isotropic, prior.widths.isotropic, rtol=1e-12, atol=0
        )
        torch.testing.assert_close(again.widths.spectral, prior.widths.spectral, rtol=1e-12, atol=0)

    def test_half_precision_storage_halves_the_file(self, prior, x, tmp_path):
        files.save(prior, tmp_path / "full.safetensors")
        files.save(prior, tmp_path / "half.safetensors", storage=torch.float16)
        full, half = ((tmp_path / f"{n}.safetensors").stat().st_size for n in ("full", "half"))
        assert half < 0.7 * full
        out = files.load(tmp_path / "half.safetensors")(x, 0.01)
        # 11 bits of mantissa: 5e-4 of the network's part, which is at most a few σ_data.
        torch.testing.assert_close(out, prior(x, 0.01), rtol=0, atol=5e-4 * 0.05)

    def test_bfloat16_keeps_the_precision_of_small_noise(self, prior, x, tmp_path):
        files.save(prior, tmp_path / "a.safetensors")
        rough = files.load(tmp_path / "a.safetensors", dtype=torch.bfloat16)
        sigma = 2e-4
        # Only c_out F is rounded (8 bits), and c_out ≤ σ.
        assert (rough(x, sigma) - prior(x, sigma)).abs().max() < 0.05 * sigma

    def test_a_fixed_size_prior_refuses_other_sizes(self, tmp_path):
        fixed = LearnedPrior(SPEC, CONSTANTS, train_shape=(2, 32, 32), fixed_size=True)
        files.save(fixed, tmp_path / "a.safetensors")
        again = files.load(tmp_path / "a.safetensors")
        assert again.shape == (2, 32, 32)
        with pytest.raises(PriorError, match="does not fit"):
            again.check((2, 40, 32))

    def test_an_interrupted_save_leaves_the_old_file(self, prior, tmp_path, monkeypatch):
        path = tmp_path / "a.safetensors"
        files.save(prior, path)
        before = path.read_bytes()

        def broken(target, data):
            with target.open("wb") as file:
                file.write(data[: len(data) // 2])
            raise OSError("disk full")

        monkeypatch.setattr(Path, "write_bytes", broken)
        with pytest.raises(OSError, match="disk full"):
            files.save(prior, path)
        assert path.read_bytes() == before


class TestDamage:
    @pytest.fixture
    def path(self, prior, tmp_path):
        files.save(prior, tmp_path / "a.safetensors")
        return tmp_path / "a.safetensors"

    def test_missing(self, tmp_path):
        with pytest.raises(PriorError, match="no such prior file"):
            files.load(tmp_path / "none.safetensors")

    def test_a_pickle_is_refused(self, tmp_path):
        path = tmp_path / "a.safetensors"
        path.write_bytes(pickle.dumps({"weights": [1, 2]}))
        with pytest.raises(PriorError, match="no readable safetensors"):
            files.load(path)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
    def test_cut_short(self, path, share):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(PriorError, match="no readable safetensors"):
            files.load(path)

    def test_foreign_safetensors(self, tmp_path):
        path = tmp_path / "a.safetensors"
        save_file({"w": torch.zeros(2)}, path)
        with pytest.raises(PriorError, match="does not describe a prior"):
            files.load(path)

    def test_another_format_version(self, path):
        rewrite(path, lambda header, tensors: header.update(format=99))
        with pytest.raises(PriorError, match=r"format version(.|\n)*got: +99"):
            files.load(path)

    def test_missing_tensor(self, path):
        rewrite(path, lambda header, tensors: tensors.pop("network.unet.m_tail.weight"))
        with pytest.raises(PriorError, match=r"missing: network.unet.m_tail.weight"):
            files.load(path)

    def test_unexpected_tensor(self, path):
        rewrite(path, lambda header, tensors: tensors.update(extra=torch.zeros(1)))
        with pytest.raises(PriorError, match="unexpected: extra"):
            files.load(path)

    def test_wrong_shape(self, path):
        name = "network.unet.m_tail.weight"
        rewrite(path, lambda header, tensors: tensors.update({name: torch.zeros(1, 2)}))
        with pytest.raises(PriorError, match=r"wrong shape(.|\n)*m_tail"):
            files.load(path)

    def test_weights_that_are_no_numbers(self, path):
        name = "network.unet.m_tail.weight"
        rewrite(path, lambda header, tensors: tensors[name].fill_(float("nan")))
        with pytest.raises(PriorError, match="not finite"):
            files.load(path)

    def test_incomplete_widths(self, path):
        rewrite(path, lambda header, tensors: tensors.pop("widths.sigma"))
        with pytest.raises(PriorError, match="widths in the file are incomplete"):
            files.load(path)

    @pytest.mark.parametrize("entry", ["network", "preconditioning", "train_shape", "units"])
    def test_description_lacks_an_entry(self, path, entry):
        rewrite(path, lambda header, tensors: header.pop(entry))
        with pytest.raises(PriorError, match=f"lacks an entry(.|\n)*{entry}"):
            files.load(path)

    def test_unknown_network(self, path):
        rewrite(path, lambda header, tensors: header["network"].update({"class": "os.system"}))
        with pytest.raises(PriorError, match=r"does not know(.|\n)*os\.system"):
            files.load(path)


SHIPPED = sorted((Path(__file__).parents[2] / "data/priors").glob("*.safetensors"))


class TestShipped:
    def test_five_priors_within_30_megabytes(self):
        names = ["blackhole", "ct", "generic-complex", "generic", "mri"]
        assert [p.stem for p in SHIPPED] == names
        assert sum(p.stat().st_size for p in SHIPPED) <= 30e6

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
    def test_loads_with_widths_over_its_whole_range(self, path):
        prior = files.load(path)
        assert prior.name == path.stem
        sigmas = prior.widths.sigmas
        assert float(sigmas[0]) == pytest.approx(prior.sigma_min, rel=1e-6)
        assert float(sigmas[-1]) == pytest.approx(prior.sigma_max, rel=1e-6)
        r = (prior.widths.isotropic.sqrt() / prior.scale).tolist()
        if path.stem != "generic-complex":  # there the filter that takes over at 8 u errs less
            assert r == sorted(r)  # more noise, more error
        assert r[0] * prior.scale < prior.sigma_min
        # At the largest σ what is left is the spread of the class, at most its root mean square.
        assert r[-1] * prior.scale < 1.1 * prior.sigma_data

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
    def test_the_description_says_how_it_was_made(self, path):
        header = files.load(path).describe()
        assert header["training"]["seed"] > 0
        assert header["command"].startswith("sciinv train workflows/configs/")
        assert header["data"]["licence"]
        assert "/" not in str(header["data"].get("source", ""))

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
    def test_the_card_stands_beside_it(self, path):
        name = path.stem.removesuffix("-complex")  # one network and one card for both
        card = path.with_name(f"{name}.md").read_text()
        assert "Not good for" in card
        for picture in ("samples", "training"):
            assert f"{name}-{picture}.png" in card
            assert path.with_name(f"{name}-{picture}.png").is_file()
