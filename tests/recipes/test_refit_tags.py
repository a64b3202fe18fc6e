"""The tagging head that is fitted after training."""

import torch

from recipes.weights.refit_tags import fit


def test_the_fit_finds_scores_that_are_linear_in_the_features():
    generator = torch.Generator().manual_seed(0)
    features = 5 + 3 * torch.randn(400, 6, generator=generator)
    truth = ((features[:, :2] - 5) / 3).sigmoid()
    weight, bias = fit(features[:300], truth[:300], features[300:], truth[300:])
    assert weight.shape == (2, 6) and bias.shape == (2,)
    guess = (features[300:] @ weight.T + bias).sigmoid()
    assert (guess - truth[300:]).abs().mean() < 0.05
