"""The four-direction scan of a map, fused against plain, and the whole hierarchical encoder against ViTs.

    python benchmarks/ss2d.py [--threads 2] [--rounds 7] [--json results.json]

First table, one layer's scan at each stage of the 10 s model: "plain" stacks four reordered copies of the
map and runs the recurrence step by step in PyTorch, as VMamba's code does without a GPU; "four copies"
does the same with this package's compiled 1-d scan, so that only the copies and the merging differ.
Second table, one window of 10 s: the encoder with either scan, and Transformers of as many parameters
with fused attention on the same 256 × 256 image, in patches of 16 and of 8.
"""

from __future__ import annotations

import argparse
import statistics
import warnings

import torch
from timing import matmul_rate, ratio, take_turns, write
from torch import Tensor, nn

from hear_audiomamba.encoders.hiermamba import HierMamba, fold_windows
from hear_audiomamba.encoders.vmamba import HTSAT_FEATURES
from hear_audiomamba.flops import count_flops
from hear_audiomamba.modules.transformer import TransformerBlock
from hear_audiomamba.ops import selective_scan, selective_scan_2d, use_backend
from hear_audiomamba.registry import VARIANTS

# Second generation (one state, inner width as hiermamba_small has it) and first (16 states), side of the map.
SCANS = [
    ("stage 1", 64, 192, 1), ("stage 2", 32, 384, 1), ("stage 3", 16, 768, 1), ("stage 4", 8, 1536, 1),
    ("stage 1, N = 16", 64, 192, 16), ("stage 3, N = 16", 16, 768, 16),
]  # fmt: skip
VITS = {"ViT, patches of 16": 16, "ViT, patches of 8": 8}


def copies_of(x: Tensor, side: int) -> Tensor:
    """Return `(B, L, C)` in the four orders, `(B, L, 4, C)`."""
    by_columns = x.unflatten(1, (side, side)).transpose(1, 2).flatten(1, 2)
    return torch.stack([x, by_columns, x.flip(1), by_columns.flip(1)], dim=2)


def plain_scan(u, delta, a, b, c, d, bias, side: int, backend: str | None) -> Tensor:
    """Scan four reordered copies as one grouped 1-d scan, and put the results back in place."""

    def ordered(x: Tensor) -> Tensor:
        return torch.stack([copies_of(x[:, :, k], side)[:, :, k] for k in range(4)], dim=2)

    y = selective_scan(
        copies_of(u, side).flatten(2), ordered(delta).flatten(2), a, ordered(b), ordered(c), d,
        delta_bias=bias, delta_softplus=True, backend=backend,
    ).unflatten(2, (4, -1))  # fmt: skip
    rows = y[:, :, 0] + y[:, :, 2].flip(1)
    columns = y[:, :, 1] + y[:, :, 3].flip(1)
    return rows + columns.unflatten(1, (side, side)).transpose(1, 2).flatten(1, 2)


@torch.no_grad()
def scan_row(name: str, side: int, channels: int, states: int, rounds: int) -> dict:
    """Measure one layer's scan."""
    length = side * side
    u, delta = torch.randn(1, length, channels), torch.randn(1, length, 4, channels) - 2
    b, c = torch.randn(1, length, 4, states), torch.randn(1, length, 4, states)
    a = -torch.arange(1.0, states + 1).repeat(4 * channels, 1)
    d, bias = torch.ones(4 * channels), torch.zeros(4 * channels)

    def fused():
        return selective_scan_2d(u, delta, a, b, c, d, bias, height=side, width=side)

    def four_copies():
        return plain_scan(u, delta, a, b, c, d, bias, side, None)

    def plain():
        return plain_scan(u, delta, a, b, c, d, bias, side, "reference")

    exact = plain()
    for other in (fused(), four_copies()):
        gap = ((other - exact).norm() / exact.norm()).item()
        assert gap < 1e-5, f"the scans disagree: {gap:.2e}"
    times = take_turns({"fused": fused, "four_copies": four_copies}, rounds, warmup=3)
    times |= {"plain": take_turns({"plain": plain}, rounds, warmup=0)["plain"]}
    return {
        "name": name, "side": side, "channels": channels, "states": states,
        "milliseconds": {side_name: 1000 * statistics.median(t) for side_name, t in times.items()},
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

    gap = ((encoder.tag(features)[0] - plain()).norm() / plain().norm()).item()
    assert gap < 1e-4, f"the encoders disagree: {gap:.2e}"
    sides = {"hiermamba_small": lambda: encoder.tag(features)}
    sides |= {name: (lambda vit=vit: vit(image)) for name, vit in vits.items()}
    times = take_turns(sides, rounds, warmup=2)
    ours = times["hiermamba_small"]
    plain_times = take_turns({"plain": plain}, 2, warmup=0)["plain"]
    flops = count_flops(config, 10.0, 10.0)
    return {
        "gflops": flops.total / 1e9,
        "of_bound": statistics.median(ours) / (flops.products / matmul),
        "parameters": {"hiermamba_small": n_parameters(encoder)} | {k: n_parameters(v) for k, v in vits.items()},
        "milliseconds": {k: 1000 * statistics.median(t) for k, t in (times | {"plain": plain_times}).items()},
        "vs": {name: ratio(times[name], ours) for name in vits} | {"plain": ratio(plain_times, ours)},
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

    def spread(r: dict[str, float]) -> str:
        return f"{r['median']:.1f} ({r['min']:.1f}–{r['max']:.1f})"

    print("| scan | map, channels, states | fused, ms | × faster than plain | × faster than four copies |")
    print("|---|---|---|---|---|")
    scans = []
    for case in SCANS:
        row = scan_row(*case, args.rounds)
        scans.append(row)
        print(
            f"| {row['name']} | {row['side']} × {row['side']}, {row['channels']}, {row['states']} "
            f"| {row['milliseconds']['fused']:.2f} | {spread(row['vs_plain'])} "
            f"| {spread(row['vs_four_copies'])} |",
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
        faster = spread(found["vs"][name]) if name in found["vs"] else "–"
        print(f"| {label} | {size / 1e6:.1f} M | {milliseconds:.0f} | {faster} |")
    write(args.json, {"matmul_flops": matmul, "scans": scans, "encoder": found})


if __name__ == "__main__":
    main()
