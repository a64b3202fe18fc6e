"""`hear-audiomamba bench`: every backend of this machine in one table, and the same as JSON."""

from __future__ import annotations

import json

from hear_audiomamba.cli import bench as bench_verb
from hear_audiomamba.cli import main


def test_bench_measures_every_backend(monkeypatch, capsys):
    monkeypatch.setattr(bench_verb, "LAYER", {"batch": 1, "length": 9, "channels": 8, "states": 4})
    assert main(["bench", "--models", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    backends = [row["backend"] for row in result["scans"]]
    assert backends[:2] == ["reference", "torch"]
    assert ("cpu" in backends) == (result["kernel"] in ("avx512", "avx2", "portable"))
    assert all(row["forward_ms"] > 0 and row["training_ms"] > 0 for row in result["scans"])
    assert main(["bench", "--models", "--rounds", "1"]) == 0
    assert "selective scan" in capsys.readouterr().out
