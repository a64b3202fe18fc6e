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
MARKED = re.compile(r"(<!-- table (\S+) -->\n\n)(?:(?!<!-- ).)*?(\n?<!-- end of table -->)", re.DOTALL)
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


def scan(result: Result) -> str:
    """Return the table of `benchmarks/scan.py`."""
    rows = []
    for row in result["scans"]:
        for way in ("forward", "training"):
            found = row[way]
            numbers = (f"{found['milliseconds']['ours']:.2f}", f"{found['ns_per_update']:.3f}")
            ratios = (spread(found[f"vs_{other}"]) for other in ("reference", "torch"))
            rows.append((row["name"], ", ".join(map(str, row["shape"])), way, *numbers, *ratios))
    names = "layer; batch, L, D, N; pass; ms; ns an update; × the reference; × chunked PyTorch"
    return table(names, rows, "; ")


def instruction_sets(result: Result) -> str:
    """Return the table of `benchmarks/scan.py --isa`."""
    rows = [(row["pass"], row["isa"], f"{row['milliseconds']:.2f}") for row in result["isa"]]
    return table("pass, instruction set, ms", rows)


def scan_published(result: Result) -> str:
    """Return the table of `benchmarks/scan_published.py`, from a file of each state of memory."""
    kept = len(result["rows"]) // 2
    rows = []
    for plain, keeping in zip(result["rows"][:kept], result["rows"][kept:], strict=True):
        assert (plain["batch"], plain["pass"]) == (keeping["batch"], keeping["pass"])
        ratios = (spread(row["vs_published"]) for row in (plain, keeping))
        rows.append(
            (plain["batch"], plain["pass"], f"{plain['ms']:.2f}", f"{plain['ns_an_update']:.3f}", *ratios)
        )
    return table(
        "batch; pass; ms; ns an update; × published, as it runs; × published, memory kept", rows, "; "
    )


def maps(result: Result) -> str:
    """Return the first table of `benchmarks/ss2d.py`."""
    rows = [
        (
            row["name"],
            f"{row['side']} × {row['side']}, {row['channels']}, {row['states']}",
            f"{row['milliseconds']['fused']:.2f}",
            *(spread(row[f"vs_{other}"]) for other in ("plain", "four_copies")),
        )
        for row in result["scans"]
    ]
    return table(
        "layer of `hiermamba_small`; map, channels, states; fused, ms; × plain; × four copies", rows, "; "
    )


def encoders(result: Result) -> str:
    """Return the second table of `benchmarks/ss2d.py`."""
    found, ours = result["encoder"], "hiermamba_small"
    rows = []
    for name, milliseconds in found["milliseconds"].items():
        size = found["parameters"].get(name, found["parameters"][ours])
        shown = {"plain": "the same on the plain scan"}.get(name, name)
        rows.append((shown, f"{size / 1e6:.1f} M", f"{milliseconds:,.0f}", spread(found["vs"].get(name))))
    return table("10 s of audio through, parameters, ms, hiermamba_small is × faster", rows)


def lengths(result: Result) -> str:
    """Return the table of `benchmarks/sequence_length.py`."""
    found = {(point["side"], point["length"]): point for point in result["points"]}
    rows = []
    for length in sorted({length for _, length in found}):
        cells = [f"{length:,}"]
        for side in ("mamba", "fused", "naive"):
            point = found[side, length]
            failed = point.get("failed")
            cells += (
                [failed, "–"] if failed else [f"{point['seconds']:.3g}", f"{point['memory'] / 2**20:,.0f}"]
            )
        cells.append(f"{found['fused', length]['seconds'] / found['mamba', length]['seconds']:.2f}")
        rows.append(cells)
    sides = "Mamba: s, MiB, fused attention: s, MiB, naive attention: s, MiB"
    return table(f"tokens, {sides}, fused ÷ Mamba", rows)


def precision(result: Result) -> str:
    """Return the table of `benchmarks/precision.py`."""
    rows = []
    for row in result["rows"]:
        pairs = list(row["scores"].values())
        means = (statistics.mean(pair[kind] for pair in pairs) for kind in ("float32", "bfloat16"))
        change = max((pair["bfloat16"] - pair["float32"] for pair in pairs), key=abs)
        gap = row["distance"]
        rows.append(
            (
                row["model"],
                f"{gap['median']:.1e}",
                f"{gap['max']:.1e}",
                *(f"{mean:.3f}" for mean in means),
                f"{change:+.3f}",
                spread(row["speed"]),
            )
        )
    return table(
        "model; distance, median; distance, largest; mean score, float32; mean score, bfloat16; "
        "largest change of a task; bfloat16 is × faster",
        rows,
        "; ",
    )


def training_step(result: Result) -> str:
    """Return the table of `benchmarks/pretrain.py`."""
    names = {"ssam": "SSAM-tiny", "ssast": "SSAST-tiny"}
    rows = []
    for row in result["rows"]:
        family, *rest = row["side"].split(", ")
        shown = ", ".join((names[family], *rest))
        rows.append(
            (shown, f"{row['clips_per_second']:.2f}", f"{row['peak_mb']:,.0f}", spread(row["vs_ssast"]))
        )
    return table("step; clips a second of one core; peak memory, MB; speed, × SSAST-tiny", rows, "; ")


def engines(result: Result) -> str:
    """Return the table of `benchmarks/predictions.py`."""
    rows = []
    for row in result["tasks"]:
        sides = ("kit", row["precision"])
        name, score = row["task"].partition("-")[0], row["score"].removeprefix("test_")
        scores = []
        for side in sides:
            half = row["half_widths"][side]
            scores.append(f"{100 * row['means'][side]:.1f}" + (f" ± {100 * half:.1f}" if half else ""))
        seconds = (
            f"{statistics.median(run['processor'] for run in row['runs'][side]):.1f}" for side in sides
        )
        within = {True: "yes", False: "no", None: "–"}[row["in_kit_interval"]]
        pairs = {**row["processor_ratio"], "pairs": len(row["runs"]["kit"])}
        rows.append(
            (f"{name}, {score}", pairs["pairs"], row["precision"], *scores, within, *seconds, spread(pairs))
        )
    return table(
        "task; seeds; engine's precision; kit; engine; within the kit's interval; kit, s; engine, s; kit ÷ engine",
        rows,
        "; ",
    )


def hear_tasks(result: Result) -> str:
    """Return the table of results of `hear-audiomamba evaluate`: mean and deviation over seeds."""
    tasks = {
        "drum_strokes": "drum strokes",
        "soundfont_pitch": "pitch",
        "speech_commands_tts": "commands",
        "sfx_multilabel": "effects, several",
        "sfx_events": "effects in time",
    }
    rows = []
    for model in result["rows"]:
        found = {name.partition("-")[0]: task["runs"] for name, task in model["tasks"].items()}
        cells = []
        for task in tasks:
            values = [run["value"] for run in found.get(task, ())]
            many = (
                f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else "–"
            )
            cells.append(many if len(values) != 1 else f"{values[0]:.3f} (one seed)")
        rows.append((f"`{model['model']}`", *cells))
    return table("; ".join(["what", *tasks.values()]), rows, "; ")


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
    "precision_xeon_amx": ("docs/performance.md", "precision_xeon_amx.json", precision),
    "scan_xeon": ("docs/performance.md", "scan_xeon.json", scan),
    "scan_isa_xeon": ("docs/performance.md", "scan_isa_xeon.json", instruction_sets),
    "scan_published_xeon": (
        "docs/performance.md",
        "scan_published_xeon.json scan_published_xeon_memory_kept.json",
        scan_published,
    ),
    "ss2d_xeon": ("docs/performance.md", "ss2d_xeon.json", maps),
    "hiermamba_xeon": ("docs/performance.md", "ss2d_xeon.json", encoders),
    "sequence_length_xeon": ("docs/performance.md", "sequence_length_xeon.json", lengths),
    "pretrain_xeon": ("docs/pretraining.md", "pretrain_xeon.json", training_step),
    "predictions_faster_xeon": ("docs/evaluation.md", "predictions_faster_xeon.json", engines),
    "predictions_default_xeon": ("docs/evaluation.md", "predictions_default_xeon.json", engines),
    "hear_kit": ("docs/reproducing_weights.md", "hear_kit.json", hear_tasks),
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
    """Return a ratio with the least and the most of its pairs, in three digits or so."""
    if found is None:
        return "–"
    digits = 2 if found["median"] < 10 else 1 if found["median"] < 100 else 0
    if found["pairs"] < 5:
        return f"{found['median']:.{digits}f} ({found['pairs']:.0f} pair{'s' if found['pairs'] > 1 else ''})"
    return f"{found['median']:.{digits}f} ({found['min']:.{digits}f}–{found['max']:.{digits}f})"


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
