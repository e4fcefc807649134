"""Losses and metrics of one objective against scikit-learn and numbers by hand; objectives that compete."""

import logging

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, r2_score, roc_auc_score

from etalage.models.objectives import conflicts, loss_of, metrics_of
from etalage.models.recipe import Objective

LABELS = np.array([1.0, 0, 0, 1, 1, 0, 0])
SCORES = np.array([[2.0], [-1], [2], [0.5], [-3], [-2], [0]])
STARS = Objective("stars", "classes", (1.0, 3.0, 5.0))


def test_binary_metrics_are_scikit_learns() -> None:
    found = metrics_of(Objective("click"), SCORES, LABELS)
    assert found["auroc"] == pytest.approx(roc_auc_score(LABELS, SCORES[:, 0]))
    assert found["log_likelihood"] == pytest.approx(-log_loss(LABELS, 1 / (1 + np.exp(-SCORES[:, 0]))))
    loss = loss_of(Objective("click"), torch.from_numpy(SCORES), torch.from_numpy(LABELS)).mean()
    assert float(loss) == pytest.approx(-found["log_likelihood"])


def test_auroc_by_query_is_the_mean_over_queries_that_have_both() -> None:
    groups = np.array([7, 7, 7, 2, 2, 5, 5])
    found = metrics_of(Objective("click"), SCORES, LABELS, groups)
    assert found["auroc_by_query"] == pytest.approx(
        0.75
    )  # query 7: one pair right, one tied; the others have none


def test_where_nothing_can_be_ordered_auroc_is_a_half() -> None:
    found = metrics_of(Objective("click"), SCORES, np.ones(7), np.arange(7))
    assert (found["auroc"], found["auroc_by_query"]) == (0.5, 0.5)


def test_regression_metrics_are_scikit_learns() -> None:
    wanted = np.array([3.0, -1, 2, 0, 1, 5, 4])
    found = metrics_of(Objective("value", "regression"), SCORES, wanted)
    assert found["r2"] == pytest.approx(r2_score(wanted, SCORES[:, 0]))
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.mean((wanted - SCORES[:, 0]) ** 2))))
    loss = loss_of(Objective("value", "regression"), torch.from_numpy(SCORES), torch.from_numpy(wanted))
    assert float(loss.mean()) == pytest.approx(found["rmse"] ** 2)


def test_a_label_is_of_the_class_whose_value_is_nearest_and_the_expected_value_orders() -> None:
    out = np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4], [4, 0, 1]])
    wanted = np.array([1.2, 3, 4.1, 5])
    found = metrics_of(STARS, out, wanted)
    assert found["accuracy"] == 0.75
    chances = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
    likelihood = np.log(chances[[0, 1, 2, 3], [0, 1, 2, 2]]).mean()
    assert found["log_likelihood"] == pytest.approx(likelihood)
    assert found["auroc"] == pytest.approx(0.75)  # 4.1 stands above both lower ones, 5 above one of them
    loss = loss_of(STARS, torch.from_numpy(out), torch.from_numpy(wanted))
    assert float(loss.mean()) == pytest.approx(-likelihood)


def test_objectives_that_compete_are_measured_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    shared = torch.tensor([0.0, 0.0], requires_grad=True)
    losses = {
        "close": (shared - torch.tensor([1.0, 0.0])).square().sum(),
        "buy": (shared - torch.tensor([-1.0, 1.0])).square().sum(),
        "stay": (shared - torch.tensor([0.0, 3.0])).square().sum(),
    }
    with caplog.at_level(logging.WARNING):
        found = conflicts(losses, [shared])
    assert found == {
        "agreement.close.buy": pytest.approx(-(0.5**0.5)),
        "agreement.close.stay": pytest.approx(0),
        "agreement.buy.stay": pytest.approx(0.5**0.5),
    }
    assert [record.message for record in caplog.records if "compete" in record.message] == [
        "objectives close and buy compete (cosine of their gradients -0.71): train each alone and compare, "
        "or change their weights"
    ]
