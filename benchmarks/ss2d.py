"""The four-direction scan of a map, fused against plain, and the whole hierarchical encoder against ViTs.

    python benchmarks/ss2d.py [--threads 2] [--rounds 7] [--json results.json]

First table, one layer between its convolution and its norm (projections, scan, merge) at each stage of the
10 s model: "plain" stacks four reordered copies of the map and runs the recurrence step by step in PyTorch,
as VMamba's code does without a GPU; "four copies" does the same with this package's compiled 1-d scan, so
that only the copies, the products on them and the merging differ.
Second table, one window of 10 s: the encoder with either scan, and Transformers of as many parameters
with fused attention on the same 256 × 256 image, in patches of 16 and of 8.
"""

from __future__ import annotations

import argparse
import statistics
import warnings

import torch
from timing import matmul_rate, ratio, spread, take_turns, write
from torch import Tensor, nn

from hear_audiomamba.encoders.hiermamba import HierMamba, fold_windows
from hear_audiomamba.encoders.vmamba import HTSAT_FEATURES
from hear_audiomamba.models.flops import count_flops
from hear_audiomamba.models.registry import VARIANTS
from hear_audiomamba.modules.ss2d import SS2D
from hear_audiomamba.modules.transformer import TransformerBlock
from hear_audiomamba.ops import selective_scan, use_backend

# Side of the map, width of the stream, states: hiermamba_small's stages, and the first generation's states.
SCANS = [
    ("stage 1", 64, 96, 1), ("stage 2", 32, 192, 1), ("stage 3", 16, 384, 1), ("stage 4", 8, 768, 1),
    ("stage 1, 16 states", 64, 96, 16), ("stage 3, 16 states", 16, 384, 16),
]  # fmt: skip
VITS = {"ViT, patches of 16": 16, "ViT, patches of 8": 8}


def copies_of(x: Tensor, side: int) -> Tensor:
    """Return `(B, L, C)` in the four orders, `(B, L, 4, C)`."""
    by_columns = x.unflatten(1, (side, side)).transpose(1, 2).flatten(1, 2)
    return torch.stack([x, by_columns, x.flip(1), by_columns.flip(1)], dim=2)


def plain_core(mixer: SS2D, u: Tensor, side: int, backend: str | None) -> Tensor:
    """Do what `mixer` does between its convolution and its norm, on four reordered copies of the map."""
    copies = copies_of(u, side)
    projected = torch.einsum("blkd,kcd->blkc", copies, mixer.x_proj_weight)
    dt, b, c = projected.split([mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1)
    delta = torch.einsum("blkr,kdr->blkd", dt, mixer.dt_projs_weight)
    y = selective_scan(
        copies.flatten(2), delta.flatten(2), -torch.exp(mixer.A_logs), b, c, mixer.Ds,
        delta_bias=mixer.dt_projs_bias.flatten(), delta_softplus=True, backend=backend,
    ).unflatten(2, (4, -1))  # fmt: skip
    rows = y[:, :, 0] + y[:, :, 2].flip(1)
    columns = y[:, :, 1] + y[:, :, 3].flip(1)
    return rows + columns.unflatten(1, (side, side)).transpose(1, 2).flatten(1, 2)


@torch.no_grad()
def scan_row(name: str, side: int, width: int, states: int, rounds: int) -> dict:
    """Measure one layer's scan with its projections."""
    mixer = SS2D(width, d_state=states, ssm_ratio=2.0)
    u = torch.randn(1, side * side, 2 * width)
    image = u.unflatten(1, (side, side))
    sides = {
        "fused": lambda: mixer.scan(image).flatten(1, 2),
        "four_copies": lambda: plain_core(mixer, u, side, None),
        "plain": lambda: plain_core(mixer, u, side, "reference"),
    }
    exact = sides["plain"]()
    for other in ("fused", "four_copies"):
        gap = ((sides[other]() - exact).norm() / exact.norm()).item()
        assert gap < 1e-5, f"the scans disagree: {gap:.2e}"
    times = take_turns(sides, rounds, warmup=3, few={"plain": 5})
    return {
        "name": name, "side": side, "channels": 2 * width, "states": states,
        "milliseconds": {k: 1000 * statistics.median(t) for k, t in times.items()},
        "vs_plain": ratio(times["plain"], times["fused"]),
        "vs_four_copies": ratio(times["four_copies"], times["fused"]),
    }  # fmt: skip


class ViT(nn.Module):
    """A plain Vision Transformer with a class token and learned positions."""

    def __init__(self, patch: int, dim: int = 512, depth: int = 12, side: int = 256) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (side // patch) ** 2, dim))
        self.blocks = nn.Sequential(*(TransformerBlock(dim, dim // 64, 4, 1e-6) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 527)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def n_parameters(module: nn.Module) -> int:
    """Return how many parameters a module has."""
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
def encoder_rows(rounds: int, matmul: float) -> dict:
    """Measure one 10 s window through the encoder and its rivals."""
    config = VARIANTS["hiermamba_small"].config
    encoder = HierMamba(config.encoder, config.features).eval()
    features = 25 * torch.randn(1, 1024, HTSAT_FEATURES.n_mels) - 40
    image = fold_windows(features / 25, 4)
    vits = {name: ViT(patch).eval() for name, patch in VITS.items()}

    def plain():
        with use_backend("reference"):
            return encoder.tag(features)[0]

    exact = plain()
    gap = ((encoder.tag(features)[0] - exact).norm() / exact.norm()).item()
    assert gap < 1e-4, f"the encoders disagree: {gap:.2e}"
    sides = {"hiermamba_small": lambda: encoder.tag(features)}
    sides |= {name: (lambda vit=vit: vit(image)) for name, vit in vits.items()}
    times = take_turns(sides | {"plain": plain}, rounds, warmup=2, few={"plain": 5})
    ours = times["hiermamba_small"]
    flops = count_flops(config, 10.0, 10.0)
    return {
        "gflops": flops.total / 1e9,
        "of_bound": statistics.median(ours) / (flops.products / matmul),
        "parameters": {"hiermamba_small": n_parameters(encoder)} | {k: n_parameters(v) for k, v in vits.items()},
        "milliseconds": {k: 1000 * statistics.median(t) for k, t in times.items()},
        "vs": {name: ratio(times[name], ours) for name in (*vits, "plain")},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    matmul = matmul_rate()
    print(f"matrix products: {matmul / 1e9:.0f} GFLOP/s, {args.threads} threads\n")

    print("| scan | map, channels, states | fused, ms | × faster than plain | × faster than four copies |")
    print("|---|---|---|---|---|")
    scans = []
    for case in SCANS:
        row = scan_row(*case, args.rounds)
        scans.append(row)
        print(
            f"| {row['name']} | {row['side']} × {row['side']}, {row['channels']}, {row['states']} "
            f"| {row['milliseconds']['fused']:.2f} | {spread(row['vs_plain'], 1)} "
            f"| {spread(row['vs_four_copies'], 1)} |",
            flush=True,
        )
    found = encoder_rows(args.rounds, matmul)
    print(
        f"\nhiermamba_small on 10 s: {found['gflops']:.1f} GFLOP, {found['of_bound']:.2f} × its products' time\n"
    )
    print("| model | parameters | ms | hiermamba_small is × faster |")
    print("|---|---|---|---|")
    for name, milliseconds in found["milliseconds"].items():
        size = found["parameters"].get(name, found["parameters"]["hiermamba_small"])
        label = "hiermamba_small, plain scan" if name == "plain" else name
        faster = spread(found["vs"][name], 1) if name in found["vs"] else "–"
        print(f"| {label} | {size / 1e6:.1f} M | {milliseconds:.0f} | {faster} |")
    write(args.json, {"matmul_flops": matmul, "scans": scans, "encoder": found})


if __name__ == "__main__":
    main()
