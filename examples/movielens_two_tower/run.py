"""Two-tower retrieval on MovieLens: the shape of the original, then ours; beside the simple ones.

python examples/movielens_two_tower/run.py --data FOLDER [--set epochs=2]
"""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from etalage.bundle.admission import beside_popularity
from etalage.config import parse_pairs
from etalage.console import bar
from etalage.errors import EtalageError
from etalage.models import recipe as recipes
from etalage.shop import Shop
from etalage.shop.behaviour_steps import behaviour
from etalage.training.run import resolve

MODEL = "two_tower"
ORIGINAL = {"preset": "original", "epochs": "3", "dropout": "0.0"}


def load(folder: Path, data: Path) -> Shop:
    """A shop at `folder` with MovieLens' films and ratings."""
    shop = Shop.create(folder, "MovieLens", bar)
    shutil.copy(Path(__file__).with_name("shop.toml"), folder / "shop.toml")
    for file, table in (("movies.csv", "items"), ("ratings.csv", "interactions")):
        done = shop.ingest(data / file, table)  # type: ignore[arg-type]
        print(f"{table}: read {done.read}, inserted {done.inserted}, refused {done.refused}")
    return shop


def learn(shop: Shop, settings: dict[str, str]) -> None:
    """Train, with the figures before the first step and after each epoch."""
    recipe = recipes.find(MODEL)
    config = resolve(recipe, shop.config.models[MODEL], settings)
    task = recipe.bind(config, behaviour(shop).data)
    torch.manual_seed(config.seed)
    with torch.inference_mode():
        print(f"untrained: {told(task.validate(task.network().eval()))}")
    trained, exported = shop.train(MODEL, settings)
    for number, epoch in enumerate(trained.history, start=1):
        print(f"epoch {number}: {told(epoch)}")
    print(f"{exported.name}: {trained.seconds:.0f} s")
    print(shop.evaluate(MODEL).summary())


def told(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def ask(shop: Shop, user_id: str) -> None:
    """What a user would want, who would want the first of it, and who is like that user."""
    recommender = shop.recommender()
    answer = recommender.recommend(user_id=user_id, k=5, explain=True)
    print(f"for user {user_id}, {answer.rung}, by {', '.join(answer.trace['retrievers'])}:")
    for slot in answer.slate:
        print(f"  {slot.rank}  {slot.score:.3f}  {slot.item['title']}")
    first = answer.slate[0]
    near = recommender.users_for_item(first.item_id, 5)
    print(f"users for {first.item['title']}:", ", ".join(f"{one.user_id} {one.score:.2f}" for one in near))
    near = recommender.users_like(user_id, 5)
    print(f"users like {user_id}:", ", ".join(f"{one.user_id} {one.score:.2f}" for one in near))


def main(
    data: Annotated[Path, typer.Option(help="Folder of ratings.csv and movies.csv.")],
    shop: Annotated[Path, typer.Option(help="Where the shop is made.")] = Path("build/movielens-two-tower"),
    original: Annotated[bool, typer.Option(help="Train the original's shape first.")] = True,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model's config.")] = None,
) -> None:
    opened = load(shop, data)
    if original:
        learn(opened, ORIGINAL)
    for simple in ("popularity", "ials"):
        opened.train(simple)
    learn(opened, parse_pairs("--set", set) or {})
    manifest = opened.publish()
    print(f"published {manifest.id}: {', '.join(one.name for one in manifest.funnel)}")
    for line in beside_popularity(manifest.funnel):
        print(line)
    for one in manifest.refused:
        print(f"left out: {one.reason}")
    ask(opened, "1")
    print(f"serve it: etalage serve --shop {shop}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
