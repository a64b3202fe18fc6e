"""Write the tables of the documentation that come from benchmarks/results/, so that none differs from its JSON.

usage: python tools/result_tables.py [--check]     (after a benchmark has written its JSON anew)

A table stands in a page between `<!-- table NAME -->` and `<!-- end of table -->`; `TABLES` says what makes it.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- table (\S+) -->\n\n).*?(\n<!-- end of table -->)", re.DOTALL)
Result = dict[str, Any]

SCORES = {"sfx_multilabel": "mAP", "sfx_events": "onset F1, 200 ms"}
SIDES = {"pytorch": "PyTorch", "onnx": "ONNX, float32", "int8": "ONNX, eight bits"}


def embed(result: Result) -> str:
    """Return the table of `benchmarks/embed.py`."""
    rows = []
    for row in result["rows"]:
        name = f"ssam_{row['size']}"
        place = (row["precision"], row["batch"], f"{row['tokens']:,}")
        against, share = row["vs_ssast"], row["scan_share_of_bound"]
        rows.append(
            (
                name,
                *place,
                f"{row['realtime']['ours']:.0f}",
                spread(against),
                f"{row['of_bound']:.2f}",
                f"{share:.0%}",
            )
        )
        if trained := row["realtime"].get("trained depth"):
            rows.append((f"{name}, trained depth", *place, f"{trained:.0f}", "–", "–", "–"))
    columns = "model, precision, clips, tokens, × real time, × SSAST fused attention"
    return table(f"{columns}, time over its bound, scan in the bound", rows)


def busy(result: Result) -> str:
    """Return the table of `benchmarks/busy.py`."""
    names = {"spinning": "two in a busy loop", "sleeping": "two sleeping", "one thread": "one"}
    rows = []
    for side, text in names.items():
        for clips in ("1", "8"):
            cells, medians = [], []
            for state in ("idle", "busy"):
                rates = [turn[clips] for turn in result["states"][state]["rates"][side]]
                medians.append(statistics.median(rates))
                cells.append(f"{medians[-1]:.1f} ({min(rates):.1f}–{max(rates):.1f})")
            cells.append(f"{medians[1] / medians[0]:.2f}")
            rows.append((text, clips, *cells))
    return table("threads, clips at once, idle, busy, busy ÷ idle", rows)


def classify_scores(result: Result) -> str:
    """Return the table of `benchmarks/classify.py scores`."""
    rows = []
    for row in result["rows"]:
        task = row["task"].partition("-")[0]
        kit = ("–",) * 3
        if row["kit"] is not None:
            ratio = row["kit_cpu_seconds"] / row["fit_cpu_seconds"]
            kit = (f"{row['kit']:.3f}", f"{row['kit_cpu_seconds']:.0f} s", f"{ratio:.0f}")
        name = f"{task} ({SCORES.get(task, 'accuracy')})"
        seconds = f"{row['fit_cpu_seconds']:.1f} s"
        rows.append(
            (name, kit[0], f"{row['fit']:.3f}", f"{row['fit_from_csv']:.3f}", kit[1], seconds, kit[2])
        )
    columns = (
        "task (score); HEAR's runner; `fit`; `fit` from a CSV; runner's time; `fit`'s time; runner ÷ `fit`"
    )
    return table(columns, rows, between="; ")


def finetuned(result: Result) -> str:
    """Return the table of `benchmarks/finetune.py`."""
    scores = [run["accuracy"] for run in result["runs"]]
    frozen = (f"{result[key]:.3f}" for key in ("frozen", "frozen_more", "frozen_best"))
    counts = f"{result['train_clips']}, {result['test_clips']}"
    shown = ", ".join(f"{score:.3f}" for score in scores)
    row = (result["task"].partition("-")[0], counts, *frozen, shown, f"{statistics.mean(scores):.3f}")
    columns = (
        "task; clips to train on, to test on; regression; regression that also has the validation clips; "
        "regression with the penalty best on the test clips; fine-tuned, a run a seed; mean"
    )
    return table(columns, [row], between="; ")


def classify_curves(result: Result) -> str:
    """Return the table of `benchmarks/classify.py curves`."""
    numbers = sorted({row["labels"] for row in result["rows"]})
    found: dict[tuple[str, str], dict[int, str]] = {}
    for row in result["rows"]:
        place = row["task"].partition("-")[0], row["side"]
        found.setdefault(place, {})[row["labels"]] = f"{row['score']:.3f} ± {row['deviation']:.3f}"
    rows = [(*place, *(scores[number] for number in numbers)) for place, scores in found.items()]
    return table(f"task, embeddings, {', '.join(map(str, numbers))}", rows)


def exported(result: Result) -> str:
    """Return the table of `benchmarks/exported.py`."""
    rows = []
    for row in result["rows"]:
        rates, sizes = row["realtime"], row["megabytes"]
        rows.append(
            (
                f"{row['model']}", f"{row['seconds_of_a_clip']:g} s", *(f"{rates[side]:.1f}" for side in SIDES),
                spread(row["pytorch_vs_onnx"]), f"{row['gap']:.0e}", f"{row['int8_cosine']:.3f}",
                f"{sizes['onnx']:.0f}, {sizes['int8']:.0f}",
            )
        )  # fmt: skip
    sides = ", ".join(f"{text.replace(', ', ' ')} × real time" for text in SIDES.values())
    agreement = "largest difference in float32, least cosine in eight bits"
    return table(f"model, clip, {sides}, PyTorch / ONNX, {agreement}, MB and in eight bits", rows)


def extract(result: Result) -> str:
    """Return the table of `benchmarks/extract.py`."""
    texts = {
        "short clips": "{} clips of 0.5–3 s, 44.1 kHz stereo",
        "long file": "one recording of {:g} min, 48 kHz",
    }
    rows = []
    for name, text in texts.items():
        found = result[name]
        size = found["files"] if found["files"] > 1 else found["audio_seconds"] / 60
        rates = (f"{found['hours_an_hour'][side]:.0f}" for side in ("loop", "engine", "encoder"))
        names = ("engine_over_loop", "engine_share_of_encoder_rate", "engine_share_of_bound")
        ratios = (found[key] for key in names)
        shown = (f"{r['median']:.2f} ({r['min']:.2f}–{r['max']:.2f})" for r in ratios)
        rows.append((text.format(size), *rates, *shown))
    return table(
        "archive, plain loop, engine, encoder alone, engine / loop, engine / encoder alone, engine / bound",
        rows,
    )


def against_peers(result: Result) -> str:
    """Return the table of `benchmarks/against_peers.py`."""
    names = {"yamnet": "YAMNet", "speech": "Google speech embedding", "speaker": "Resemblyzer"}
    rows = []
    for name, found in result["rows"].items():
        shown = (f"{r['median']:.0f} ({r['min']:.0f}–{r['max']:.0f})" for r in found.values())
        rows.append((names.get(name, name), *shown))
    return table("model, one clip of 10 s, eight such clips, a folder of files", rows)


def batch_invariance(result: Result) -> str:
    """Return the table of `benchmarks/batch_invariance.py`."""
    rows = [
        (
            f"{row['model']}{' (random weights)' if row['note'] else ''}",
            *(_change(row[key]) for key in ("same_length", "longer")),
        )
        for row in result["rows"]
    ]
    return table("model, beside a clip of the same length, beside a clip three times as long", rows)


def _change(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def without_torch(result: Result) -> str:
    """Return the table of `benchmarks/without_torch.py`."""
    packages = dict(result["by_package"])
    rows = [(name, f"{size:.1f}") for name, size in packages.items() if size >= 1]
    rest = sum(size for size in packages.values() if size < 1)
    rows += [("everything else", f"{rest:.1f}"), ("**together**", f"**{result['megabytes']:.0f}**")]
    return table("in site-packages, MB", rows)


TABLES: dict[str, tuple[str, str, Callable[[Result], str]]] = {
    "embed_xeon_amx": ("docs/performance.md", "embed_xeon_amx.json embed_xeon_amx_50s.json", embed),
    "busy_xeon_amx": ("docs/performance.md", "busy_xeon_amx.json", busy),
    "extract_xeon_amx": ("docs/embedding.md", "extract_xeon_amx.json", extract),
    "against_peers": ("docs/performance.md", "against_peers_xeon_amx.json", against_peers),
    "batch_invariance": (
        "docs/libraries.md",
        "batch_invariance.json batch_invariance_transformers.json",
        batch_invariance,
    ),
    "classify_scores": ("docs/classifying.md", "classify_scores.json", classify_scores),
    "classify_curves": ("docs/classifying.md", "classify_curves.json", classify_curves),
    "finetune_soundfont_pitch": ("docs/finetuning.md", "finetune_soundfont_pitch.json", finetuned),
    "exported": ("docs/exporting.md", "exported_xeon_amx.json", exported),
    "without_torch": ("docs/exporting.md", "without_torch.json", without_torch),
}


def table(head: str, rows: Iterable[Sequence[object]], between: str = ", ") -> str:
    """Return a Markdown table; `head` holds the names of the columns, with commas or `between` between them."""
    names = head.split(between)
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def spread(found: dict[str, float] | None) -> str:
    """Return a ratio with the least and the most of its pairs."""
    if found is None:
        return "–"
    if found["pairs"] < 5:
        return f"{found['median']:.2f} ({found['pairs']:.0f} pair{'s' if found['pairs'] > 1 else ''})"
    return f"{found['median']:.2f} ({found['min']:.2f}–{found['max']:.2f})"


def held(files: str) -> Result:
    """Return a result, with the rows of all of its files."""
    folder = ROOT / "benchmarks" / "results"
    first, *more = (json.loads((folder / name).read_text(encoding="utf-8")) for name in files.split())
    for other in more:
        first["rows"] += other["rows"]
    return dict(first)


def filled(page: str, text: str) -> str:
    """Return a page's text with all of its tables made anew.

    Raises:
        KeyError: the page has a table that `TABLES` does not know.
    """

    def replace(match: re.Match[str]) -> str:
        place, files, render = TABLES[match[2]]
        assert place == page, f"{match[2]} belongs into {place}"
        return f"{match[1]}{render(held(files))}{match[3]}"

    return MARKED.sub(replace, text)


def main(arguments: Sequence[str]) -> int:
    """Write the tables, or with --check say which page is not up to date."""
    status = 0
    for page in dict.fromkeys(place for place, _, _ in TABLES.values()):
        text = (ROOT / page).read_text(encoding="utf-8")
        new = filled(page, text)
        if new == text:
            continue
        if "--check" in arguments:
            print(f"{page} is not up to date: python tools/result_tables.py")
            status = 1
        else:
            (ROOT / page).write_text(new, encoding="utf-8")
            print(f"{page} written")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
