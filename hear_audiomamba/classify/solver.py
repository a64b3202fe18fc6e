"""Many logistic regressions over the same rows at once: every class and every penalty in one matrix product.

The loss is scikit-learn's: the mean over the rows plus `penalty/2 · |weight|²`, the bias left free.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_ITERATIONS = 200
MEMORY = 10
# Of the largest component that the gradient begins with. Closer changes no decision.
GRADIENT_TOLERANCE = 0.01
LINE_STEPS = 6


def solve(
    rows: Tensor, targets: Tensor, weights: Tensor, penalties: Sequence[float], softmax: bool
) -> tuple[Tensor, Tensor]:
    """Minimise logistic losses by L-BFGS; each problem takes steps of its own length.

    Args:
        rows: `(n, K)` float32, standardised.
        targets: `(n, C)` of zeros and ones.
        weights: `(n, C)`, or `(n, 1)` the same for all classes, of each row; they add up to about n.
        penalties: S strengths of the L2 penalty.
        softmax: one problem over all classes, instead of one for each class.

    Returns:
        Weights `(S, K, C)` and biases `(S, C)`.

    Source: Nocedal and Wright, Numerical Optimization, algorithm 7.4. The search along a direction is
        Newton's, which costs no matrix product, since logits change linearly along it.
    """
    problem = _Problem(rows, targets, weights, penalties, softmax)
    point = rows.new_zeros(rows.shape[1] + 1, len(penalties) * targets.shape[1])
    logits = problem.product(point)
    gradient = problem.gradient(point, logits)
    past: list[tuple[Tensor, Tensor, Tensor]] = []
    enough = GRADIENT_TOLERANCE * float(gradient.abs().max())
    for _ in range(MAX_ITERATIONS):
        if float(gradient.abs().max()) <= enough:
            break
        direction = -_scaled(problem, gradient, past)
        step, moved = problem.search(point, logits, direction, gradient)
        change = problem.spread(step) * direction
        point = point + change
        logits = logits + problem.spread(step) * moved
        before, gradient = gradient, problem.gradient(point, logits)
        difference = gradient - before
        curvature = problem.dot(change, difference)
        # A group that stands still adds nothing to what is known of the curvature.
        inverse = torch.where(curvature > 1e-12, 1 / curvature.clamp_min(1e-12), 0.0)
        past = [*past[1 - MEMORY :], (change, difference, inverse)]
    size = (len(rows[0]) + 1, len(penalties), targets.shape[1])
    solved = point.view(size).transpose(0, 1)
    return solved[:, :-1].contiguous(), solved[:, -1].contiguous()


def _scaled(problem: _Problem, gradient: Tensor, past: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Multiply a gradient by the inverse curvature as the last steps showed it."""
    found = gradient
    factors = []
    for change, difference, inverse in reversed(past):
        factor = inverse * problem.dot(change, found)
        found = found - problem.spread(factor) * difference
        factors.append(factor)
    if past:
        change, difference, inverse = past[-1]
        size = problem.dot(difference, difference)
        scale = torch.where(inverse > 0, 1 / (inverse * size).clamp_min(1e-30), 1.0)
        found = problem.spread(scale) * found
    for (change, difference, inverse), factor in zip(past, reversed(factors)):
        back = inverse * problem.dot(difference, found)
        found = found + problem.spread(factor - back) * change
    return found


class _Problem:
    """The losses of S·C columns, and which of them make one problem: a group."""

    def __init__(
        self, rows: Tensor, targets: Tensor, weights: Tensor, penalties: Sequence[float], softmax: bool
    ) -> None:
        self._rows, self._softmax = rows, softmax
        self._n_classes, self._n_penalties = targets.shape[1], len(penalties)
        self._targets, self._weights = targets[:, None], (weights / len(rows))[:, None]
        penalty = torch.tensor(penalties, dtype=rows.dtype, device=rows.device)
        self._penalty = penalty.repeat_interleave(self._n_classes)

    def product(self, point: Tensor) -> Tensor:
        """Return what a point, or a direction, `(K+1, S·C)` makes of the rows, `(n, S·C)`."""
        return torch.addmm(point[-1], self._rows, point[:-1])

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner product of each group, `(groups,)`."""
        return self._grouped((a * b).sum(0))

    def spread(self, values: Tensor) -> Tensor:
        """Return a value a group as a value a column."""
        return values.repeat_interleave(self._n_classes) if self._softmax else values

    def gradient(self, point: Tensor, logits: Tensor) -> Tensor:
        """Return the gradient of the losses, `(K+1, S·C)`."""
        errors = self._errors(self._shaped(logits)).flatten(1)
        slope = torch.cat([self._rows.T @ errors, errors.sum(0, keepdim=True)])
        slope[:-1] += self._penalty * point[:-1]
        return slope

    def search(
        self, point: Tensor, logits: Tensor, direction: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return how far to go for each group, and what a step of one does to the logits."""
        moved = self.product(direction)
        first = self.dot(direction, gradient)
        length = self._grouped((direction[:-1] ** 2).sum(0) * self._penalty)
        along = self._grouped((direction[:-1] * point[:-1]).sum(0) * self._penalty)
        low, high = torch.zeros_like(first), torch.full_like(first, torch.inf)
        step = torch.ones_like(first)
        for _ in range(LINE_STEPS):
            at = self._shaped(logits + self.spread(step) * moved)
            slope, bend = self._along(at, self._shaped(moved))
            slope, bend = slope + along + step * length, bend + length
            if bool((slope.abs() <= 0.1 * first.abs()).all()):
                break
            low, high = torch.where(slope < 0, step, low), torch.where(slope < 0, high, step)
            newton = step - slope / bend.clamp_min(1e-30)
            middle = torch.where(high.isinf(), 2 * step, (low + high) / 2)
            step = torch.where((newton > low) & (newton < high), newton, middle)
        return torch.where(first < 0, step, 0.0), moved

    def _along(self, logits: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """Return first and second derivative of each group's loss along a direction."""
        chances = self._chances(logits)
        slope = (self._errors(logits) * moved).sum(0)
        if not self._softmax:
            bend = (self._weights * chances * (1 - chances) * moved**2).sum(0)
            return slope.flatten(), bend.flatten()
        mean = (chances * moved).sum(-1, keepdim=True)
        bend = (self._weights * chances * (moved - mean) ** 2).sum(0)
        return slope.sum(-1), bend.sum(-1)

    def _errors(self, logits: Tensor) -> Tensor:
        return (self._chances(logits) - self._targets) * self._weights

    def _chances(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1) if self._softmax else logits.sigmoid()

    def _shaped(self, logits: Tensor) -> Tensor:
        return logits.view(len(logits), self._n_penalties, self._n_classes)

    def _grouped(self, columns: Tensor) -> Tensor:
        return columns.view(self._n_penalties, self._n_classes).sum(1) if self._softmax else columns
