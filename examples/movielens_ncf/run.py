"""Neural collaborative filtering on MovieLens: ingest, train, read the model, ask it.

python examples/movielens_ncf/run.py --data FOLDER [--epochs 10] [--set preset=interactions]
"""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from etalage.config import parse_pairs
from etalage.console import bar
from etalage.errors import EtalageError
from etalage.features.behaviour import BehaviourSet
from etalage.features.negatives import candidates
from etalage.metrics import auroc
from etalage.models import recipe as recipes
from etalage.runtime.opening import open_scorer
from etalage.runtime.pairs import PairScorer
from etalage.shop import Shop
from etalage.shop.behaviour_steps import behaviour
from etalage.training.network_graph import draw, readable_weights, summary
from etalage.training.run import resolve

MODEL = "neumf"
NEGATIVES = 10
"""Drawn for each user of the test, as many as there are positives."""
PAIRS = (torch.tensor([[1, 2], [3, 4]]), torch.empty(2, 0))


def load(folder: Path, data: Path) -> Shop:
    """A shop at `folder` with MovieLens' films and ratings."""
    shop = Shop.create(folder, "MovieLens", bar)
    shutil.copy(Path(__file__).with_name("shop.toml"), folder / "shop.toml")
    for file, table in (("movies.csv", "items"), ("ratings.csv", "interactions")):
        done = shop.ingest(data / file, table)  # type: ignore[arg-type]
        print(f"{table}: read {done.read}, inserted {done.inserted}, refused {done.refused}")
    return shop


def main(
    data: Annotated[Path, typer.Option(envvar="MOVIELENS", help="Folder of ratings.csv and movies.csv.")],
    shop: Annotated[Path, typer.Option(envvar="SHOP", help="Where the shop is made.")] = Path(
        "build/movielens-ncf"
    ),
    epochs: Annotated[int, typer.Option(envvar="EPOCHS", min=1)] = 10,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model's config.")] = None,
) -> None:
    opened = load(shop, data)
    settings = {"epochs": str(epochs), **(parse_pairs("--set", set) or {})}
    whole = behaviour(opened)
    stored = prepared(whole.data, shop / "prepared.npz")

    recipe = recipes.find(MODEL)
    task = recipe.bind(resolve(recipe, opened.config.models[MODEL], settings), whole.data)
    network = task.network().eval()
    print(summary(network, PAIRS))
    print(f"drawn: {draw(network, PAIRS, shop / 'neumf.png')}")
    with torch.inference_mode():
        print(f"AUROC before training {task.validate(network)['auroc']:.4f}")

    trained, exported = opened.train(MODEL, settings)
    for number, epoch in enumerate(trained.history, start=1):
        print(f"epoch {number}: " + ", ".join(f"{name} {value:.4f}" for name, value in epoch.items()))
    scorer = open_scorer(exported)
    assert isinstance(scorer, PairScorer) and trained.network is not None
    judge(scorer, whole.data, stored)
    liked(scorer, whole.data, whole.titles)
    for name, weights in readable_weights(trained.network).items():
        print(f"{name}: {weights.shape}, spread {weights.std():.3f}")


def prepared(data: BehaviourSet, file: Path) -> Path:
    """Store what is learned from and tested on: user and item rows, labels, and the test's negatives."""
    arrays: dict[str, Any] = {"test_negatives": candidates(data, "test", NEGATIVES, seed=0)}
    for name in ("train", "validation", "test"):
        part = data.part(name)
        arrays |= {f"{name}_users": part.users, f"{name}_items": part.items, f"{name}_labels": part.labels}
    np.savez_compressed(file, **arrays)
    print(f"stored: {file}")
    return file


def judge(scorer: PairScorer, data: BehaviourSet, stored: Path) -> None:
    """AUROC on the test as it is stored, and the threshold 0.5 on positives AND negatives."""
    queries, _ = data.queries("test")
    with np.load(stored, allow_pickle=False) as arrays:
        drawn, users, items = (arrays[f"test_{name}"] for name in ("negatives", "users", "items"))
        liked = arrays["test_labels"] > 0
    truth = [np.unique(items[liked & (users == user)]) for user in queries.users]
    width = max(len(right) for right in truth)
    right = np.stack([np.pad(rows, (0, width - len(rows))) for rows in truth])
    asked = np.concatenate([right, drawn], axis=1)
    scores, there = scorer.scores_of(queries, asked), asked > 0
    positive = np.broadcast_to(np.arange(asked.shape[1]) < width, asked.shape)[there]
    probability = scorer.probability(scores[there])
    assert probability is not None
    said = probability >= 0.5
    print(
        f"test: AUROC {auroc(scores[there], positive):.4f}; at probability 0.5 accuracy "
        f"{(said == positive).mean():.3f}, of what it likes {positive[said].mean():.3f} was taken, "
        f"of what was taken it likes {said[positive].mean():.3f}, "
        f"of what was not {said[~positive].mean():.3f}"
    )


def liked(scorer: PairScorer, data: BehaviourSet, titles: dict[str, str], count: int = 5) -> None:
    """The films that the first user of the test has not rated and most probably would."""
    queries, _ = data.queries("test")
    one = queries.block(0, 1)
    scores = scorer.scores(one)[0]
    scores[one.items] = -np.inf
    print(f"user {data.users.id(int(one.users[0]))} would like:")
    for row in np.argsort(-scores)[:count]:
        probability = scorer.probability(scores[row : row + 1])
        assert probability is not None
        name = data.items.id(int(row))
        print(f"  {probability[0]:.3f}  {titles.get(name, name)}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
