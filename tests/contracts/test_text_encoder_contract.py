"""What every sentence encoder keeps to: those that come with a package, and one of the shop's own as ONNX."""

import importlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pyarrow as pa
import pytest

from etalage.errors import ConfigError
from etalage.features import text_encoders
from etalage.features.text_encoders import (
    LONGEST,
    PACKAGES,
    TextEncoder,
    installed,
    open_encoder,
    texts_of_items,
)

ENCODERS = ("use", "wordllama", "own.onnx")
TEXTS = (
    "red leather shoe",
    "Lampe de bureau en laiton",
    "Schwarzer Wintermantel für Damen",
    "青いセラミックの皿",
    "мужская шерстяная шапка",
    "a",
    "10 x 20 cm",
    "long words " * 1000,
)


def put_own(folder: Path, name: str = "own.onnx", table: np.ndarray | None = None) -> None:
    """A sentence encoder of one table of letters: (M, T) → (M, T, 8)."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789 üмушкаяь青いの皿"
    vocabulary = {"[UNK]": 0, "[PAD]": 1} | {one: n for n, one in enumerate(dict.fromkeys(letters), start=2)}
    tokens = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "."},
            "behavior": "Isolated",
            "invert": False,
        },
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokens), "utf-8")
    numbers = np.random.default_rng(0).normal(size=(len(vocabulary), 8)) if table is None else table
    kept = onnx.numpy_helper.from_array(numbers.astype(np.float32), "table")
    shape = ["texts", "tokens"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gather", ["table", "input_ids"], ["states"])],
        "own",
        [onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, shape)],
        [onnx.helper.make_tensor_value_info("states", onnx.TensorProto.FLOAT, [*shape, 8])],
        [kept],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / name)


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TextEncoder]:
    """Open, while whatever asks the network fails."""

    def refused(*given: Any) -> None:
        raise AssertionError(f"asked the network: {given}")

    folder = tmp_path_factory.mktemp("own")
    put_own(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        patch.setattr(socket, "getaddrinfo", refused)
        yield open_encoder(request.param, folder)


def test_embeddings_are_of_length_one_and_a_text_says_the_same_each_time(encoder: TextEncoder) -> None:
    found = encoder.encode(TEXTS)
    assert found.shape == (len(TEXTS), encoder.dimension) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(TEXTS), found)


def test_a_text_says_the_same_whatever_stands_beside_it(encoder: TextEncoder) -> None:
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    many = encoder.encode([f"item {n}" for n in range(100)] + [TEXTS[0]])
    np.testing.assert_allclose(many[-1], together[0], atol=1e-5)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "—", "!?", "🙂"])
def test_a_text_without_a_word_is_zeros(encoder: TextEncoder, text: str) -> None:
    found = encoder.encode([text, "shoe"])
    assert not found[0].any() and found[1].any()


def test_of_a_long_text_the_beginning_is_read(encoder: TextEncoder) -> None:
    begun = ("a blue lamp " * 1000)[:LONGEST]
    np.testing.assert_array_equal(encoder.encode([begun + " 7" * 5000]), encoder.encode([begun]))


def test_other_words_are_other_numbers(encoder: TextEncoder) -> None:
    found = encoder.encode(TEXTS)
    assert len(np.unique(found.round(4), axis=0)) == len(TEXTS)


def test_no_texts_are_no_rows(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dimension)


@pytest.mark.parametrize("name", PACKAGES)
def test_words_that_mean_the_same_are_nearer(name: str) -> None:
    shoe, boots, lamp = open_encoder(name, Path()).encode(["leather shoes", "leather boots", "table lamp"])
    assert shoe @ boots > shoe @ lamp


def test_use_reads_across_languages() -> None:
    pairs = ["red shoes", "rote Schuhe", "chaussures rouges", "garden hose"]
    found = open_encoder("use", Path()).encode(pairs)
    assert found[0] @ found[1] > found[0] @ found[3] and found[0] @ found[2] > found[0] @ found[3]


def test_other_weights_are_another_encoder(tmp_path: Path) -> None:
    put_own(tmp_path)
    before = open_encoder("own.onnx", tmp_path).model_hash
    assert open_encoder("own.onnx", tmp_path).model_hash == before
    put_own(tmp_path, table=np.ones((64, 8)))
    assert open_encoder("own.onnx", tmp_path).model_hash != before


def test_what_is_no_encoder_is_told(tmp_path: Path) -> None:
    put_own(tmp_path)
    with pytest.raises(ConfigError, match=r"no file .*gone\.onnx"):
        open_encoder("gone.onnx", tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(ConfigError, match=r"broken\.onnx cannot be opened"):
        open_encoder("broken.onnx", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(ConfigError, match=r"tokenizer\.json is no tokenizer"):
        open_encoder("own.onnx", tmp_path)


def test_an_answer_that_is_no_number_is_refused(tmp_path: Path) -> None:
    put_own(tmp_path, table=np.full((64, 8), np.nan))
    with pytest.raises(ConfigError, match="answers 'shoe' with what is no number"):
        open_encoder("own.onnx", tmp_path).encode(["", "shoe"])


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_not_installed_is_said_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed(name)
    monkeypatch.setattr(text_encoders, "find_spec", lambda module: None)
    assert not installed(name)
    with pytest.raises(ConfigError, match=rf"{PACKAGES[name][1]}.*extra text"):
        open_encoder(name, Path())


def test_a_tokenizer_that_is_not_installed_is_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_own(tmp_path)
    there = importlib.import_module

    def without(name: str) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return there(name)

    monkeypatch.setattr(text_encoders.importlib, "import_module", without)
    with pytest.raises(ConfigError, match=r"tokenizers is not installed.*extra text"):
        open_encoder("own.onnx", tmp_path)


def test_an_items_text_is_all_that_is_written_about_it() -> None:
    items = pa.table({
        "title": ["Ada", None, None], "brand": ["Marsh", None, None],
        "category_id": ["Clothing > Dresses", "Lamps", None], "description": [None, "Of brass.", None],
    })  # fmt: skip
    assert texts_of_items(items) == ["Ada. Marsh. Clothing, Dresses", "Lamps. Of brass.", ""]
