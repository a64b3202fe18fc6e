"""Weights of exported models in eight bits.

Only weights are rounded, and computing stays in float32. So silence and quiet clips keep their spectra, and a clip's
embedding does not depend on the clips beside it. Rounding the activations too would end both: a runtime chooses
one step for a whole batch, and the quietest clip of it would be rounded to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto

# Smaller weights are a small part of a file, and often what a model is most sensitive to.
LEAST_VALUES = 4096
PRODUCTS = {"MatMul", "Gemm", "Conv"}
# Between a weight and its product, the exporter may put operators that only move values.
MOVES = {"Expand", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Identity"}


def quantise(source: str | Path, target: str | Path) -> Path:
    """Write an exported model with the weights of its matrix products and convolutions in eight bits.

    Each row or column of a weight has a step of its own: its largest absolute value is 127 steps. Tables of the
    front end stay in float32.

    Args:
        source: the `.onnx` file.
        target: the file to write; may be the source.

    Returns:
        The target.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    names = _weights_of_products(graph)
    for weight in list(graph.initializer):
        if weight.name not in names or weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) < 2:
            continue
        values = numpy_helper.to_array(weight)
        if values.size < LEAST_VALUES:
            continue
        axis, steps, rounded = _round(values)
        parts: dict[str, NDArray[Any]] = {f"{weight.name}.int8": rounded, f"{weight.name}.steps": steps}
        graph.initializer.remove(weight)
        graph.initializer.extend(numpy_helper.from_array(part, name) for name, part in parts.items())
        graph.node.insert(0, helper.make_node("DequantizeLinear", list(parts), [weight.name], axis=axis))
    onnx.save(model, target)
    return Path(target)


def _weights_of_products(graph: GraphProto) -> set[str]:
    """Return the names of the values that are factors of a product, or are moved into one."""
    found: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in PRODUCTS:
            found.update(node.input[:2])
        elif node.op_type in MOVES and node.output[0] in found:
            found.add(node.input[0])
    return {name for name in found if not name.startswith("features.")}


def _round(values: NDArray[np.float32]) -> tuple[int, NDArray[np.float32], NDArray[np.int8]]:
    """Return the axis that has a step for each index, the steps and the rounded values, with the least error."""
    found = []
    for axis in range(values.ndim):
        others = tuple(i for i in range(values.ndim) if i != axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
        steps = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        rounded = np.rint(values / steps)
        error = float(np.square(rounded * steps - values).sum())
        found.append((error, axis, steps.reshape(-1), rounded.astype(np.int8)))
    _, axis, steps, rounded = min(found, key=lambda choice: choice[0])
    return axis, steps, rounded
