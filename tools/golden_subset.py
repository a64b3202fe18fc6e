"""Write the subset of the golden tensors that is committed, so that a clone's tests still prove every family.

usage: python -m tools.golden_subset GOLDEN_DIR     (in the checkout; writes tests/golden_data)

Most fixtures are kept as they are, or some of their tensors are. SSAMBA's has 24 layers, of which two are kept: what
two layers give is computed here, by the reference scan, after the whole model was held to the published tensors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hear_audiomamba.encoders import ssamba
from hear_audiomamba.modules.compute import set_backend
from tests.golden import assert_golden

TARGET = Path(__file__).resolve().parents[1] / "tests" / "golden_data"
# fixture: prefixes or names of the tensors to keep; None keeps all
KEEP: dict[str, tuple[str, ...] | None] = {
    "frontends": None,
    "mixers": None,
    "selective_scan": ("groups1_n24/", "groups4/", "n1/", "L1/", "large_delta/"),
    "ssam_small_d2_weights": None,
    "ssam_small_d2_io": None,
    "ssast_tiny_weights": None,
    "ssast_tiny_io": None,
    "vmamba_ss2d": None,
    "vssm_v0": None,
    "vssm_v2": None,
    "hier_reshape": None,
    "aum_bibi": None,
    "aum_fobi": None,
}
SSAMBA_LAYERS = 2
STRIDES = {"full_s16": ("fbank_full", 16), "short_s16": ("fbank_short", 16), "short_s10": ("fbank_short", 10)}


def main(source: Path) -> None:
    """Write all fixtures."""
    TARGET.mkdir(exist_ok=True)
    for name, keep in KEEP.items():
        tensors, meta = _read(source, name)
        if keep is not None:
            tensors = {k: v for k, v in tensors.items() if k.startswith(keep)}
            meta["keys"] = {k: v for k, v in meta["keys"].items() if k.startswith(keep)}
            if "cases" in meta:
                meta["cases"] = {k: v for k, v in meta["cases"].items() if f"{k}/" in keep}
        _write(name, tensors, meta)
    two_layers_of_ssamba(source)


@torch.inference_mode()
def two_layers_of_ssamba(source: Path) -> None:
    """Write SSAMBA with its first two layers, one clip each, and what these layers give."""
    weights, weights_meta = _read(source, "ssamba_tiny_weights")
    tensors, meta = _read(source, "ssamba_tiny_io")
    whole = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    for case, (features, stride) in STRIDES.items():
        assert_golden(_encoder(whole, stride)(tensors[features]), tensors, meta, f"{case}/tokens")

    kept = {
        key: value
        for key, value in weights.items()
        if ".layers." not in key or int(key.split(".layers.")[1].split(".")[0]) < SSAMBA_LAYERS
    }
    weights_meta["keys"] = {key: value for key, value in weights_meta["keys"].items() if key in kept}
    _write("ssamba_tiny_weights", kept, weights_meta | {"published_depth": meta["config"]["depth"]})

    state = {key: value.float() if value.is_floating_point() else value for key, value in kept.items()}
    made = {key: tensors[key][:1] for key in ("fbank_full", "fbank_short", "wave_full", "wave_short")}
    made |= {key: tensors[key][:1] for key in ("mpc_mask_index", "mpg_mask_index", "short_s16/patch_embed")}
    made |= {key: tensors[key][:1] for key in ("short_s16/layer0_hidden", "short_s16/layer1_hidden")}
    made |= {key: tensors[key] for key in tensors if key.endswith("/pos_embed")}
    for case, (features, stride) in STRIDES.items():
        tokens = _encoder(state, stride)(made[features])
        made |= {
            f"{case}/tokens": tokens,
            f"{case}/avgtok": tokens[:, 1:].mean(dim=1),
            f"{case}/cls": tokens[:, 0],
        }
    encoder = _encoder(state, 16)
    streams = encoder.hidden_states(made["fbank_short"])
    made["short_s16/norm_once"] = encoder.norm(streams[-2] + streams[-1])
    made |= _losses(encoder, made)
    meta["config"]["depth"] = SSAMBA_LAYERS
    meta["derived"] = (
        "all but inputs, positions, patch_embed and layer*_hidden: two layers, by the reference scan"
    )
    meta["keys"] = {key: meta["keys"][key] | {"shape": list(value.shape)} for key, value in made.items()}
    _write("ssamba_tiny_io", made, meta)


def _losses(encoder: ssamba.SSAMBA, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return both pretraining losses and the predictions of the first 64 masked patches."""
    made, pairs = {}, {}
    for name, head in (("mpc", encoder.contrast), ("mpg", encoder.reconstruct)):
        index = tensors[f"{name}_mask_index"].long()
        mask = torch.zeros(len(index), 512).scatter_(1, index, 1).bool()
        chosen = index[..., None].expand(-1, -1, 256)
        pairs[name] = [patches.gather(1, chosen) for patches in head(tensors["fbank_full"], mask)]
        made[f"{name}_pred"] = pairs[name][0][:, :64]
    prediction, target = pairs["mpc"]
    scores = (target @ prediction.transpose(1, 2)).log_softmax(dim=-1)
    right = scores.argmax(dim=1) == torch.arange(scores.shape[1])
    made["mpc_acc"] = right.float().mean()[None]
    made["mpc_nce"] = -scores.diagonal(dim1=1, dim2=2).mean()[None]
    made["mpg_mse"] = torch.nn.functional.mse_loss(*pairs["mpg"])[None]
    return made | {"joint_loss": made["mpc_nce"] + 10 * made["mpg_mse"]}


def _encoder(state: dict[str, Tensor], stride: int) -> ssamba.SSAMBA:
    config, features = ssamba.config_from_state(state)
    encoder = ssamba.SSAMBA(config.replace(time_stride=stride, freq_stride=stride), features).eval()
    encoder.load_state_dict(ssamba.convert_state(state))
    set_backend(encoder, "reference")
    return encoder


def _read(source: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return load_file(source / f"{name}.safetensors"), json.loads((source / f"{name}.json").read_text())


def _write(name: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    save_file(
        {key: value.clone().contiguous() for key, value in tensors.items()}, TARGET / f"{name}.safetensors"
    )
    (TARGET / f"{name}.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
