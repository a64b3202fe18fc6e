"""Graphs of the ONNX exporter made smaller before they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir


def simplify(model: onnx_ir.Model) -> None:
    """Compute what is constant in a graph, and join operators where one will do.

    Constants come first: of the hierarchical models they are four fifths of the graph, and looking for operators to
    join takes minutes where they are still there.

    Args:
        model: changed in place.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript import optimizer

    optimizer.fold_constants(model)
    RemoveUnusedNodesPass()(model)
    optimizer.optimize_ir(model, num_iterations=1)
