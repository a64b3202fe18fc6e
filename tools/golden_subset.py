"""Write the subset of the golden tensors that is committed, so that a clone's tests still prove the models.

usage: python tools/golden_subset.py GOLDEN_DIR     (writes tests/golden_data)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

# fixture: prefixes or names of the tensors to keep; None keeps all
KEEP: dict[str, tuple[str, ...] | None] = {
    "frontends": None,
    "mixers": None,
    "selective_scan": ("groups1_n24/", "groups4/", "n1/", "L1/", "large_delta/"),
    "ssam_small_d2_weights": None,
    "ssam_small_d2_io": ("wave_c", "logmel_c", "timestamp_c", "ts_c", "scene_c", "pretrain_loss"),
    "vmamba_ss2d": None,
    "vssm_v2": None,
    "aum_bibi": None,
}


def main(source: Path) -> None:
    target = Path(__file__).resolve().parents[1] / "tests" / "golden_data"
    target.mkdir(exist_ok=True)
    for name, keep in KEEP.items():
        tensors = load_file(source / f"{name}.safetensors")
        meta = json.loads((source / f"{name}.json").read_text())
        if keep is not None:
            tensors = {k: v for k, v in tensors.items() if k.startswith(keep)}
            meta["keys"] = {k: v for k, v in meta["keys"].items() if k.startswith(keep)}
            if "cases" in meta:
                meta["cases"] = {k: v for k, v in meta["cases"].items() if f"{k}/" in keep}
        save_file(tensors, target / f"{name}.safetensors")
        (target / f"{name}.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
