"""The network of guided-diffusion in all its sizes, of deepinv's blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepinv.models import diffunet as blocks
from torch import Tensor, nn


class GuidedUNet(nn.Module):
    """ε(x_t, t) of Dhariwal & Nichol 2021 (arXiv 2105.05233), tensors named as in their release.

    Args:
        in_channels: Channels of an image.
        out_channels: Channels that come out; twice as many where the variance is learned.
        model_channels: Channels of the first level.
        num_res_blocks: Residual blocks per level.
        channel_mult: Factor on the channels at each level.
        attention: Levels that have attention.
        num_heads: Heads, where `num_head_channels` is −1.
        num_head_channels: Channels of a head.
        use_scale_shift_norm: Whether the time scales and shifts after the norm.
        resblock_updown: Whether residual blocks change the resolution, not plain convolutions.
        use_new_attention_order: Whether q, k, v are split before the heads.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 6,
        model_channels: int = 128,
        num_res_blocks: int = 1,
        channel_mult: Sequence[int] = (1, 1, 2, 2, 4, 4),
        attention: Sequence[int] = (4,),
        num_heads: int = 4,
        num_head_channels: int = 64,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = True,
        use_new_attention_order: bool = False,
    ) -> None:
        super().__init__()
        self.model_channels = model_channels
        width = 4 * model_channels

        def residual(cin: int, cout: int, up: bool = False, down: bool = False) -> blocks.ResBlock:
            return blocks.ResBlock(
                cin, width, 0.0, out_channels=cout, use_scale_shift_norm=use_scale_shift_norm,
                up=up, down=down,
            )  # fmt: skip

        def attend(channels: int) -> blocks.AttentionBlock:
            return blocks.AttentionBlock(
                channels, num_heads=num_heads, num_head_channels=num_head_channels,
                use_new_attention_order=use_new_attention_order,
            )  # fmt: skip

        def sequence(*modules: nn.Module) -> nn.Module:
            return blocks.TimestepEmbedSequential(*modules)

        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        channels = [int(m * model_channels) for m in channel_mult]
        first = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        ch, skips = channels[0], [channels[0]]
        inputs = [sequence(first)]
        for level, cout in enumerate(channels):
            for _ in range(num_res_blocks):
                inner: list[nn.Module] = [residual(ch, cout)]
                ch = cout
                if level in attention:
                    inner.append(attend(ch))
                inputs.append(sequence(*inner))
                skips.append(ch)
            if level < len(channels) - 1:
                down = (
                    residual(ch, ch, down=True) if resblock_updown else blocks.Downsample(ch, True)
                )
                inputs.append(sequence(down))
                skips.append(ch)
        self.input_blocks = nn.ModuleList(inputs)
        self.middle_block = sequence(residual(ch, ch), attend(ch), residual(ch, ch))
        outputs = []
        for level, cout in reversed(list(enumerate(channels))):
            for block in range(num_res_blocks + 1):
                inner = [residual(ch + skips.pop(), cout)]
                ch = cout
                if level in attention:
                    inner.append(attend(ch))
                if level and block == num_res_blocks:
                    inner.append(
                        residual(ch, ch, up=True) if resblock_updown else blocks.Upsample(ch, True)
                    )
                outputs.append(sequence(*inner))
        self.output_blocks = nn.ModuleList(outputs)
        self.out = nn.Sequential(
            nn.GroupNorm(32, ch), nn.SiLU(), nn.Conv2d(channels[0], out_channels, 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return what the network predicts at x_t [B, C, H, W] and step t [B]."""
        half = self.model_channels // 2
        rates = torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(half) / half).to(x)
        angle = t[:, None].to(x.dtype) * rates
        emb = self.time_embed(torch.cat([angle.cos(), angle.sin()], 1))
        kept = []
        for block in self.input_blocks:
            x = block(x, emb)
            kept.append(x)
        x = self.middle_block(x, emb)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], 1), emb)
        return self.out(x)


__all__ = ["GuidedUNet"]
