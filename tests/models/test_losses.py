"""Multi-Similarity against pytorch-metric-learning, which keeps loss and miner apart; the softmaxes over
items against plain cross-entropy; ordered classes against their definition."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from etalage.models.losses import (
    cosine_softmax,
    full_softmax,
    generalised_bce,
    multi_similarity,
    ordinal,
    sampled_softmax,
    weighted_mean,
)


def reference(embeddings_BD: Tensor, labels_B: Tensor, **settings: float) -> Tensor:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    miner = miners.MultiSimilarityMiner(epsilon=settings.get("epsilon", 0.1))
    loss = losses.MultiSimilarityLoss(
        alpha=settings.get("alpha", 2), beta=settings.get("beta", 40), base=settings.get("base", 0.5)
    )
    answer: Tensor = loss(embeddings_BD, labels_B, miner(embeddings_BD, labels_B))
    return answer


def clustered(seed: int, labels_B: Tensor, spread: float, dimension: int = 16) -> Tensor:
    """Embeddings around one random centre per class: mining keeps some pairs and drops others."""
    random = torch.Generator().manual_seed(seed)
    centres_CD = torch.randn(int(labels_B.max()) + 1, dimension, generator=random)
    return centres_CD[labels_B] + spread * torch.randn(len(labels_B), dimension, generator=random)


def value_and_gradient(
    loss: object, embeddings_BD: Tensor, *rest: Tensor, **settings: float
) -> tuple[Tensor, Tensor]:
    leaf_BD = embeddings_BD.clone().requires_grad_()
    value: Tensor = loss(leaf_BD, *rest, **settings)  # type: ignore[operator]
    value.backward()
    assert leaf_BD.grad is not None
    return value.detach(), leaf_BD.grad


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(
    "settings",
    [{}, {"alpha": 3.0, "beta": 25.0, "epsilon": 0.25, "base": 0.7}, {"epsilon": -0.05, "base": 0.2}],
    ids=["ours", "others", "narrow mining"],
)
def test_it_equals_the_reference_in_value_and_gradient(spread: float, settings: dict[str, float]) -> None:
    for seed in range(20):
        random = torch.Generator().manual_seed(1000 + seed)
        labels_B = torch.randint(0, 2 + seed % 6, (9 + 5 * seed,), generator=random)
        embeddings_BD = clustered(seed, labels_B, spread)
        value, gradient = value_and_gradient(multi_similarity, embeddings_BD, labels_B, **settings)
        expected_value, expected_gradient = value_and_gradient(reference, embeddings_BD, labels_B, **settings)
        torch.testing.assert_close(value, expected_value, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


def test_mining_drops_some_pairs_and_keeps_others() -> None:
    labels_B = torch.arange(40) % 4
    embeddings_BD = clustered(5, labels_B, 1.0)
    mined, everything = (multi_similarity(embeddings_BD, labels_B, epsilon=e) for e in (0.0, 10.0))
    assert 0.1 < float(mined) < float(everything) - 0.01


def test_two_classes_far_apart_leave_no_pair_and_no_gradient() -> None:
    embeddings_BD = torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [-1.0, 0.02], [-1.0, 0.05]])
    labels_B = torch.tensor([7, 7, 3, 3, 3])
    value, gradient = value_and_gradient(multi_similarity, embeddings_BD, labels_B)
    assert value == 0 and reference(embeddings_BD, labels_B) == 0
    assert torch.equal(gradient, torch.zeros(5, 2))


@pytest.mark.parametrize("labels", [[4, 4, 4, 4, 4, 4], [0, 1, 2, 3, 4, 5]], ids=["one class", "all alone"])
def test_a_batch_without_both_kinds_of_pair_costs_nothing(labels: list[int]) -> None:
    embeddings_BD = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    value, gradient = value_and_gradient(multi_similarity, embeddings_BD, torch.tensor(labels))
    assert value == 0 and torch.equal(gradient, torch.zeros(6, 8))
    assert reference(embeddings_BD, torch.tensor(labels)) == 0


def test_a_class_with_one_example_only_pushes_the_others_as_in_the_reference() -> None:
    labels_B = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 3])
    embeddings_BD = clustered(3, labels_B, 1.5, dimension=4)
    value, gradient = value_and_gradient(multi_similarity, embeddings_BD, labels_B)
    expected_value, expected_gradient = value_and_gradient(reference, embeddings_BD, labels_B)
    torch.testing.assert_close(value, expected_value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    assert gradient[7:].abs().max() > 0, "the single examples are still negatives of the others"


def test_a_hand_computed_batch() -> None:
    # Angles 0°, 60° (class 0) and 90° (class 1): similarities .5, 0, cos 30° = .8660254
    angles_B = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0]))
    embeddings_BD = torch.stack([angles_B.cos(), angles_B.sin()], dim=1)
    s = torch.tensor(0.8660254)
    # Anchor 0: its negative (0) is not within .1 of its positive (.5), so nothing is hard.
    # Anchor 1: positive .5 - .1 < .866 and negative .866 + .1 > .5. Anchor 2 has no positive.
    pull = torch.log1p(torch.exp(-2 * (torch.tensor(0.5) - 0.5))) / 2
    expected = (pull + torch.log1p(torch.exp(40 * (s - 0.5))) / 40) / 3
    torch.testing.assert_close(multi_similarity(embeddings_BD, torch.tensor([0, 0, 1])), expected)


def test_scaling_the_embeddings_changes_nothing() -> None:
    labels_B = torch.arange(24) % 5
    embeddings_BD = clustered(8, labels_B, 1.0)
    unit = multi_similarity(F.normalize(embeddings_BD), labels_B)
    torch.testing.assert_close(multi_similarity(17.0 * embeddings_BD, labels_B), unit, rtol=1e-5, atol=0)
    assert unit > 0.1


def test_autocast_does_not_lower_its_precision() -> None:
    labels_B = torch.arange(64) % 7
    embeddings_BD = clustered(2, labels_B, 0.8, dimension=128)
    expected = multi_similarity(embeddings_BD, labels_B)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(multi_similarity(embeddings_BD, labels_B), expected)
        rounded = multi_similarity(embeddings_BD.bfloat16(), labels_B)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, expected, rtol=0.01, atol=0)


def test_the_reference_skips_a_batch_with_one_pair_of_each_kind_and_ours_does_not() -> None:
    """The one known difference: pytorch-metric-learning takes a single surviving pair for none."""
    angles_B = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0]))
    embeddings_BD = torch.stack([angles_B.cos(), angles_B.sin()], dim=1)
    labels_B = torch.tensor([0, 0, 1])
    assert reference(embeddings_BD, labels_B) == 0
    assert multi_similarity(embeddings_BD, labels_B) > 0.1


def test_cosine_softmax_on_a_hand_computed_batch() -> None:
    # Cosines to the proxies (1, 0) and (0, 1): .6, .8 and 1, 0, whatever the lengths.
    embeddings_BD, proxies_KD = torch.tensor([[3.0, 4.0], [0.2, 0.0]]), torch.tensor([[7.0, 0.0], [0.0, 0.1]])
    first = torch.log1p(torch.exp(torch.tensor(5.0 * (0.6 - 0.8))))
    second = torch.log1p(torch.exp(torch.tensor(5.0 * (1.0 - 0.0))))
    loss = cosine_softmax(embeddings_BD, proxies_KD, torch.tensor([1, 1]), scale=5.0)
    torch.testing.assert_close(loss, (first + second) / 2)


def test_cosine_softmax_equals_the_reference() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    labels_B = torch.arange(30) % 6
    embeddings_BD = clustered(4, labels_B, 1.0, dimension=12)
    reference_loss = losses.NormalizedSoftmaxLoss(num_classes=6, embedding_size=12, temperature=1 / 16)
    proxies_KD = reference_loss.W.detach().T
    expected = reference_loss(embeddings_BD, labels_B)
    torch.testing.assert_close(
        cosine_softmax(embeddings_BD, proxies_KD, labels_B), expected, rtol=1e-5, atol=1e-6
    )


def test_cosine_softmax_keeps_float32_under_autocast() -> None:
    labels_B = torch.arange(32) % 4
    embeddings_BD, proxies_KD = clustered(6, labels_B, 0.5), clustered(7, torch.arange(4), 0.5)
    expected = cosine_softmax(embeddings_BD, proxies_KD, labels_B)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cosine_softmax(embeddings_BD, proxies_KD, labels_B), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [3, 7, 100])
def test_the_full_softmax_is_cross_entropy_in_value_and_gradients(smoothing: float, chunk: int) -> None:
    random = torch.Generator().manual_seed(2)
    queries, items = (torch.randn(n, 5, generator=random, requires_grad=True) for n in (17, 29))
    targets = torch.randint(29, (17,), generator=random)
    weights = torch.rand(17, generator=random)
    plain = F.cross_entropy(queries @ items.T, targets, reduction="none", label_smoothing=smoothing)
    expected = (plain * weights).sum() / weights.sum()
    found = full_softmax(queries, items, targets, weights, smoothing=smoothing, chunk=chunk)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(3 * loss, (queries, items)) for loss in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_full_softmax_stays_finite_for_scores_that_exp_cannot_hold() -> None:
    queries = torch.tensor([[300.0], [-300.0]], requires_grad=True)
    items = torch.tensor([[1.0], [0.0], [-1.0]])
    loss = full_softmax(queries, items, torch.tensor([0, 0]))
    assert float(loss.detach()) == pytest.approx(300.0)
    assert torch.isfinite(torch.autograd.grad(loss, queries)[0]).all()


def test_the_full_softmax_under_autocast_is_close_and_of_its_inputs_type() -> None:
    random = torch.Generator().manual_seed(3)
    queries, items = (torch.randn(n, 16, generator=random, requires_grad=True) for n in (40, 60))
    targets = torch.randint(60, (40,), generator=random)
    expected = torch.autograd.grad(F.cross_entropy(queries @ items.T, targets), queries)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = full_softmax(queries, items, targets)
    found = torch.autograd.grad(loss, queries)[0]
    assert loss.dtype == found.dtype == torch.float32
    assert F.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999
    assert not torch.equal(found, expected), "the products ran in bfloat16"


def test_a_softmax_over_no_query_is_zero() -> None:
    queries = torch.empty(0, 4, requires_grad=True)
    loss = full_softmax(queries, torch.randn(5, 4), torch.empty(0, dtype=torch.int64))
    assert loss == 0 and torch.autograd.grad(loss, queries)[0].shape == (0, 4)


def test_with_the_correction_the_sum_over_drawn_items_is_that_over_all_on_average() -> None:
    random = torch.Generator().manual_seed(4)
    query, items = 0.5 * torch.randn(1, 8, generator=random), torch.randn(200, 8, generator=random)
    logits = (query @ items.T)[0]
    # Items that are asked for are drawn more often, as those of a batch are.
    chance = (0.1 + 0.05 * (logits - logits.min())).clamp(max=0.95)
    right = torch.zeros(1, dtype=torch.int64)

    def sums(corrected: bool) -> torch.Tensor:
        found = []
        for _ in range(1500):
            drawn = torch.rand(200, generator=random) < chance
            rows = torch.cat([right, 1 + drawn[1:].nonzero()[:, 0]])
            log_probability = chance[rows].log() * corrected
            log_probability[0] = 0.0  # the right one is always among them
            found.append((sampled_softmax(query, items[rows], right, log_probability) + logits[0]).exp())
        return torch.stack(found).mean()

    whole = logits.exp().sum()
    assert abs(sums(corrected=True) / whole - 1) < 0.05
    assert sums(corrected=False) / whole < 0.8


def test_gbce_is_the_papers_formula_and_plain_bce_where_every_item_is_drawn_or_nothing_is_calibrated() -> (
    None
):
    torch.manual_seed(0)
    queries, candidates, right = torch.randn(3, 4), torch.randn(6, 4), torch.tensor([5, 0, 2])
    logits = queries @ candidates.T
    labels = torch.nn.functional.one_hot(right, 6).float()
    parts = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    positive, negative = (parts * labels).sum(1), (parts * (1 - labels)).sum(1)
    share, calibration = 5 / 20, 0.75
    power = share * (calibration * (1 - 1 / share) + 1 / share)
    found = generalised_bce(queries, candidates, right, items=21, calibration=calibration)
    torch.testing.assert_close(found, (power * positive + negative).mean())
    for items, t in ((21, 0.0), (6, 0.75)):
        plain = generalised_bce(queries, candidates, right, items=items, calibration=t)
        torch.testing.assert_close(plain, (positive + negative).mean())


def test_ordered_classes_have_probabilities_that_add_up_to_one() -> None:
    bounds = torch.tensor([-1.0, 0.5, 2.0])
    for score in (-30.0, -0.3, 0.0, 4.0, 30.0):
        losses = ordinal(torch.full((4,), score), bounds, torch.arange(4))
        assert torch.isfinite(losses).all()
        assert float((-losses).exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_an_ordered_class_is_above_each_bound_with_the_probability_of_a_sigmoid() -> None:
    bounds, score = torch.tensor([-1.0, 0.5]), torch.tensor([0.7])
    low, middle, high = (float((-ordinal(score, bounds, torch.tensor([k]))).exp()) for k in range(3))
    assert middle + high == pytest.approx(float(torch.sigmoid(score + 1.0)), abs=1e-6)
    assert high == pytest.approx(float(torch.sigmoid(score - 0.5)), abs=1e-6)
    assert low == pytest.approx(1 - float(torch.sigmoid(score + 1.0)), abs=1e-6)


def test_the_expected_class_rises_with_the_score() -> None:
    scores, bounds = torch.linspace(-6, 6, 50), torch.tensor([-1.0, 0.2, 0.3, 3.0])
    chances = torch.stack([(-ordinal(scores, bounds, torch.full((50,), k))).exp() for k in range(5)], dim=1)
    assert ((chances * torch.arange(5)).sum(1).diff() > 0).all()


def test_a_weighted_mean_of_nothing_is_zero() -> None:
    assert weighted_mean(torch.empty(0), None) == 0
    assert weighted_mean(torch.ones(2), torch.zeros(2)) == 0
    assert float(weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0]))) == pytest.approx(1.75)
