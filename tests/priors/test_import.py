"""Foreign weights are recognised, and D is that of the original's own denoiser at five σ."""

from __future__ import annotations

import io
import json
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sciinv import priors
from sciinv.errors import ConfigError, PriorError
from sciinv.priors.wrapped import pickles
from sciinv.priors.wrapped.networks import GuidedUNet
from sciinv.steps.import_prior import import_prior

SIGMAS = (0.05, 0.2, 1.0, 4.0, 15.0)


def images(channels: int, n: int) -> Tensor:
    return torch.rand(2, channels, n, n, generator=torch.Generator().manual_seed(3))


def randomised(network: nn.Module, size: float = 0.05) -> nn.Module:
    """Also what is zero when fresh, so that every tensor is heard."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))
    return network.eval()


def imported(path: Path, folder: Path, **stated: object):
    return priors.load(import_prior(path, folder / "p.yaml", stated, draws=0), run=True)


def agree(prior, own, x: Tensor, scale: float = 0.5, offset: float = 0.5) -> None:
    """D(x, σ) against offset + scale·own(u, σ/scale), to 1e-5 of its largest value."""
    for sigma in SIGMAS:
        noisy = x + scale * sigma * torch.randn(
            x.shape, generator=torch.Generator().manual_seed(int(100 * sigma))
        )
        with torch.no_grad():
            expected = offset + scale * own((noisy - offset) / scale, sigma)
            found = prior(noisy, scale * sigma)
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def edm(network: nn.Module, sigma_data: float = 0.5):
    """EDM's preconditioning, written down from table 1 of Karras et al. 2022."""

    def own(u: Tensor, sigma: float) -> Tensor:
        root = (sigma**2 + sigma_data**2) ** 0.5
        level = torch.full((len(u),), float(np.log(sigma) / 4))
        raw = network.forward_unet(u / root, level)
        return sigma_data**2 / root**2 * u + sigma * sigma_data / root * raw

    return own


def song(kind: str) -> nn.Module:
    from deepinv.models import NCSNpp

    return randomised(NCSNpp(
        model_type=kind, img_resolution=16, in_channels=1, out_channels=1, augment_dim=9,
        model_channels=32, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,),
        pretrained=None, pixel_std=0.5,
    ))  # fmt: skip


def dhariwal() -> nn.Module:
    from deepinv.models import ADMUNet

    return randomised(ADMUNet(
        img_resolution=16, in_channels=2, out_channels=2, augment_dim=0, model_channels=32,
        channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,), pretrained=None, pixel_std=0.5,
    ))  # fmt: skip


class TestEDM:
    @pytest.mark.parametrize("kind", ["ncsn", "ddpm"])
    def test_state_dict_as_inversebench_keeps_it(self, tmp_path, kind):
        network = song(kind)
        body = {f"model.{k}": v for k, v in network.state_dict().items()}
        torch.save({"ema": body, "net": {}}, tmp_path / "ckpt.pt")
        prior = imported(tmp_path / "ckpt.pt", tmp_path)
        agree(prior, edm(network), images(1, 16), 1.0, 0.0)

    def test_pickle_with_persistent_classes(self, tmp_path):
        network = dhariwal()
        (tmp_path / "net.pkl").write_bytes(persistent(network))
        prior = imported(tmp_path / "net.pkl", tmp_path)
        agree(prior, edm(network), images(2, 16), 1.0, 0.0)

    def test_nothing_in_a_pickle_is_run(self, tmp_path):
        class Bad:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"ema": Bad(), "x": print}))
        with pytest.raises(PriorError, match="no network"):
            imported(tmp_path / "bad.pkl", tmp_path)
        assert not (tmp_path / "ran").exists()

    def test_a_torch_load_inside_a_pickle_runs_nothing_either(self, tmp_path):
        class Bad:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        inner = io.BytesIO()
        torch.save(Bad(), inner)

        class Outer:
            def __reduce__(self):
                return (torch.storage._load_from_bytes, (inner.getvalue(),))

        (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Outer()))
        with pytest.raises(PriorError, match="without running code"):
            pickles.read(tmp_path / "bad.pkl")
        assert not (tmp_path / "ran").exists()


def persistent(network: nn.Module) -> bytes:
    """A pickle laid out as EDM's `persistence` lays out modules: names that do not exist here."""

    class Module:
        def __init__(self, of: nn.Module) -> None:
            self.of = of

        def __reduce__(self):
            state = {
                "_parameters": OrderedDict(self.of._parameters),
                "_buffers": OrderedDict(self.of._buffers),
                "_modules": OrderedDict((k, Module(m)) for k, m in self.of._modules.items()),
                "_init_kwargs": {},
            }
            meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "state": state}
            return (_reconstruct, (meta,))

    outer = nn.Module()
    outer.model = network
    body = pickle.dumps({"ema": Module(outer)})
    return body.replace(_reconstruct.__module__.encode(), b"x" * len(_reconstruct.__module__))


def _reconstruct(meta):  # pragma: no cover - its name alone is in the pickle
    raise AssertionError


class TestGuided:
    @pytest.mark.parametrize("updown", [True, False])
    def test_every_size_is_read_off_the_tensors(self, tmp_path, updown):
        network = randomised(GuidedUNet(1, 2, 32, 2, (1, 2, 3), (1, 2), 4, 32, True, updown))
        torch.save(network.state_dict(), tmp_path / "g.pt")
        prior = imported(tmp_path / "g.pt", tmp_path, arguments={"num_head_channels": 32})
        agree(prior, ddpm(network, linear(), learned=True), images(1, 16))

    def test_tensors_and_values_are_those_of_deepinv_s_port_of_the_release(self):
        from deepinv.models import DiffUNet

        theirs = randomised(DiffUNet(1, 1, pretrained=None), 0.01)
        ours = GuidedUNet(1, 1, 128, 1, (1, 1, 2, 2, 4, 4), (4,))
        wanted = ours.state_dict()
        ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k in wanted})
        x, t = images(1, 32), torch.tensor([3.0, 700.0])
        with torch.no_grad():
            assert torch.allclose(
                ours.eval()(x, t), theirs.forward_diffusion(x, t), atol=1e-5, rtol=1e-5
            )

    @pytest.mark.parametrize(
        ("norm", "updown", "order"), [(True, True, False), (False, False, True)]
    )
    def test_a_checkpoint_of_the_release_s_own_network(self, tmp_path, norm, updown, order):
        # azula carries the network of openai/guided-diffusion at commit aca3097
        release = pytest.importorskip("azula.plugins.adm._src.unet")
        network = randomised(release.UNetModel(
            image_size=16, in_channels=1, model_channels=32, out_channels=2, num_res_blocks=2,
            attention_resolutions=(2, 4), channel_mult=(1, 2, 3), num_head_channels=32,
            use_scale_shift_norm=norm, resblock_updown=updown, use_new_attention_order=order,
        ))  # fmt: skip
        torch.save(network.state_dict(), tmp_path / "g.pt")
        stated = {"num_head_channels": 32, "use_new_attention_order": order}
        prior = imported(tmp_path / "g.pt", tmp_path, arguments=stated)
        agree(prior, ddpm(network, linear(), learned=True), images(1, 16))


def linear() -> np.ndarray:
    return np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


def ddpm(network, alphas: np.ndarray, predicts: str = "epsilon", learned: bool = False):
    """x̂0 of a DDPM at the step whose σ is nearest, written down from Ho et al. 2020."""
    sigmas = np.sqrt((1 - alphas) / alphas)

    def own(u: Tensor, sigma: float) -> Tensor:
        t = int(np.abs(np.log(sigmas) - np.log(sigma)).argmin())
        scale = 1 / np.sqrt(1 + sigma**2)
        x_t = scale * u
        out = network(x_t.float(), torch.full((len(u),), t))
        out = getattr(out, "sample", out)
        out = out[:, : u.shape[1]] if learned else out
        if predicts == "v":
            return scale * x_t - sigma * scale * out
        return u - sigma * out

    return own


class TestDiffusers:
    def test_folder_of_a_pipeline(self, tmp_path):
        diffusers = pytest.importorskip("diffusers")
        network = randomised(diffusers.UNet2DModel(
            sample_size=16, in_channels=1, out_channels=1, layers_per_block=1,
            block_out_channels=(32, 64), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ))  # fmt: skip
        network.save_pretrained(tmp_path / "m/unet")
        diffusers.DDPMScheduler(prediction_type="v_prediction").save_pretrained(
            tmp_path / "m/scheduler"
        )
        prior = imported(tmp_path / "m", tmp_path)
        agree(prior, ddpm(network, linear(), "v"), images(1, 16))
        scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction", clip_sample=False)
        sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
        for t in (20, 100, 300, 600, 900):  # the original's own x̂0
            sigma = float(sigmas[t])
            x_t = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(t))
            with torch.no_grad():
                out = network(x_t, t).sample
                x0 = scheduler.step(out, t, x_t).pred_original_sample
                found = prior(0.5 + 0.5 * x_t * (1 + sigma**2) ** 0.5, 0.5 * sigma)
            assert torch.allclose(found, 0.5 + 0.5 * x0, atol=1e-5 * float(x0.abs().max()))

    def test_a_folder_that_is_none(self, tmp_path):
        with pytest.raises(PriorError, match="no diffusers model"):
            imported(tmp_path, tmp_path)


class TestLucidrains:
    @pytest.mark.parametrize("objective", ["pred_v", "pred_noise", "pred_x0"])
    def test_trainer_checkpoint_against_its_own_model_predictions(self, tmp_path, objective):
        package = pytest.importorskip("denoising_diffusion_pytorch")
        unet = package.Unet(dim=16, dim_mults=(1, 2), channels=1, flash_attn=False)
        process = package.GaussianDiffusion(unet, image_size=16, objective=objective)
        randomised(process)
        body = {"step": 7, "model": process.state_dict(),
                "ema": {f"ema_model.{k}": v for k, v in process.state_dict().items()}}  # fmt: skip
        torch.save(body, tmp_path / "model-7.pt")
        said = {"pred_v": "v", "pred_noise": "epsilon", "pred_x0": "x0"}[objective]
        prior = imported(tmp_path / "model-7.pt", tmp_path, prediction=said)
        alphas = process.alphas_cumprod.double()
        for t in (30, 200, 400, 600, 800):
            sigma = float(((1 - alphas[t]) / alphas[t]).sqrt())
            x_t = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(t))
            with torch.no_grad():
                own = process.model_predictions(x_t, torch.full((2,), t)).pred_x_start
                found = prior(0.5 + 0.5 * x_t * (1 + sigma**2) ** 0.5, 0.5 * sigma)
            assert float((2 * found - 1 - own).abs().max() / own.abs().max()) < 1e-5


class TestOthers:
    def test_lightning_checkpoint_with_a_named_network(self, tmp_path):
        from deepinv.models import DRUNet

        network = randomised(DRUNet(1, 1, nc=(8, 8, 8, 8), nb=1, pretrained=None))
        torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "l.ckpt")
        prior = imported(
            tmp_path / "l.ckpt", tmp_path, network="deepinv.models:DRUNet", channels=1,
            arguments={"in_channels": 1, "out_channels": 1, "nc": [8, 8, 8, 8], "nb": 1},
            sigma_min=0.01, sigma_max=20.0,
        )  # fmt: skip
        agree(prior, lambda u, s: network(u, torch.full((2,), s)), images(1, 32), 1.0, 0.0)

    def test_widths_come_from_the_prior_s_own_draws(self, tmp_path):
        torch.save({"ema": song("ddpm").state_dict()}, tmp_path / "a.pt")
        out = import_prior(tmp_path / "a.pt", tmp_path / "p.yaml", {}, draws=2, steps=3, levels=3)
        prior = priors.load(out, run=True)
        assert prior.widths is not None
        assert len(prior.widths.sigmas) == 3

    def test_what_is_not_known_is_refused_with_a_remedy(self, tmp_path):
        torch.save({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "a.pt")
        with pytest.raises(PriorError, match="--network"):
            imported(tmp_path / "a.pt", tmp_path)
        with pytest.raises(PriorError, match="no such file"):
            imported(tmp_path / "none.pt", tmp_path)
        with pytest.raises(ConfigError, match=r"p\.yaml"):
            import_prior(tmp_path / "a.pt", tmp_path / "p.pt", {})
        (tmp_path / "c.safetensors").write_bytes(json.dumps({}).encode())
        with pytest.raises(PriorError, match="without running code"):
            imported(tmp_path / "c.safetensors", tmp_path)
