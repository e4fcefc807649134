"""Every error that Etalage raises on purpose.

Each class has an exit code for the command line and an HTTP status for the server. Each message says what is
wrong, where (file, row, field, value) and what to do next.

EtalageError                  1   500
├── ConfigError               2   500   a setting or option: unknown, wrong type, does not fit
│   └── NotTrusted            2   500   a model file of the shop that nobody has trusted
├── DataError                 3   500   the shop's data
│   ├── InputUnreadable       3   400   a file is missing, or not of its format
│   ├── TooManyRefused        4   500   more rows refused than --max-refused allows
│   ├── StoreUnavailable      3   503   the online store is locked, full, down, …
│   ├── TableMissing          3   500   nothing was loaded yet
│   ├── TableDamaged          5   500   torn log, short table, broken Parquet file
│   ├── GoldenChanged         3   500   the golden set was changed
│   └── ChangesGone           3   500   the change feed was vacuumed away
├── TrainingError             6   500
│   ├── TooLittleData         6   500   too few rows to learn from
│   ├── LeakageFound          6   500   the training data contains what is to be predicted
│   ├── LossNotFinite         6   500   NaN or infinity; names the batch
│   ├── WorkerLost            6   500   one of several workers that work together ended
│   └── CheckpointDamaged     6   500
├── EngineError              13   500   where shards and workers run: no Java, no cluster, …
│   └── ShardFailed          13   500   a shard failed as often as it was tried
├── ExportDamaged             7   500   an export that cannot be opened
├── IndexMismatch             7   500   dimension, type, norm or model differs from the index's
├── IndexUnavailable          7   503   the vector database that holds an index does not answer
├── PublishError              8   500
│   ├── PublishBusy           8   503   another process is publishing
│   ├── NothingToPublish      8   500   no trained model, or no item
│   ├── RecallTooLow          9   500   the approximate index finds too little
│   ├── GateRefused           9   500   the model does not beat the simple ones
│   └── CatalogueShrank       9   500   more items disappeared than allowed
├── BundleError              10   503
│   ├── NoBundle             10   503   nothing was published yet
│   ├── BundleDamaged        10   503   a file is missing or changed
│   └── PointerDamaged       10   503   `current` is empty, dangling or points outside
├── ServeError               11   500   a public address without a key, a port in use
├── ObjectStoreError         14   503   the object store: unreachable, no such bucket, access refused, …
└── RequestError             12   400
    ├── PhotoRefused         12   400   not an image, too large, broken
    ├── KeyRefused           12   401   the key is missing or wrong
    ├── OriginRefused        12   403   called by a page that [serve] origins does not name
    ├── NotFound             12   404
    ├── BodyTooLarge         12   413
    ├── UnsupportedMedia     12   415   a compressed body, or one that is not declared as JSON
    ├── HostRefused          12   421   called by a name that [serve] hosts does not name
    ├── Unprocessable        12   422   well-formed, but a field is out of range
    └── Overloaded           12   503   too many requests wait
"""

from typing import ClassVar


def installing(extra: str) -> str:
    """How to install the packages of an extra (pyproject.toml); Etalage is not in a registry yet."""
    return f"it comes with the extra {extra}: `pip install '.[{extra}]'` in the folder of Etalage's sources"


class EtalageError(Exception):
    """The base class. Catch it to catch every error that Etalage raises on purpose."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message, which says what to do, and no stack of our own functions."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(EtalageError):
    exit_code = 2


class NotTrusted(ConfigError):
    pass


class DataError(EtalageError):
    exit_code = 3


class InputUnreadable(DataError):
    http_status = 400


class TooManyRefused(DataError):
    exit_code = 4


class StoreUnavailable(DataError):
    http_status = 503


class TableMissing(DataError):
    pass


class TableDamaged(DataError):
    exit_code = 5


class ChangesGone(DataError):
    pass


class GoldenChanged(DataError):
    pass


class TrainingError(EtalageError):
    exit_code = 6


class TooLittleData(TrainingError):
    pass


class LeakageFound(TrainingError):
    pass


class LossNotFinite(TrainingError):
    pass


class WorkerLost(TrainingError):
    pass


class CheckpointDamaged(TrainingError):
    pass


class EngineError(EtalageError):
    exit_code = 13


class ShardFailed(EngineError):
    """Shard `number` failed with `error`, one line; `traceback` is the worker's."""

    def __init__(self, message: str, number: int = 0, error: str = "", traceback: str = "") -> None:
        super().__init__(message, number, error, traceback)
        self.number, self.error, self.traceback = number, error, traceback

    def __str__(self) -> str:
        return str(self.args[0])


class ExportDamaged(EtalageError):
    exit_code = 7


class IndexMismatch(EtalageError):
    exit_code = 7


class IndexUnavailable(EtalageError):
    exit_code = 7
    http_status = 503


class PublishError(EtalageError):
    exit_code = 8


class PublishBusy(PublishError):
    http_status = 503


class NothingToPublish(PublishError):
    pass


class RecallTooLow(PublishError):
    exit_code = 9


class GateRefused(PublishError):
    exit_code = 9


class CatalogueShrank(PublishError):
    exit_code = 9


class BundleError(EtalageError):
    exit_code = 10
    http_status = 503


class NoBundle(BundleError):
    pass


class BundleDamaged(BundleError):
    pass


class PointerDamaged(BundleError):
    pass


class ServeError(EtalageError):
    exit_code = 11


class ObjectStoreError(EtalageError):
    exit_code = 14
    http_status = 503


class RequestError(EtalageError):
    exit_code = 12
    http_status = 400


class PhotoRefused(RequestError):
    pass


class KeyRefused(RequestError):
    http_status = 401


class OriginRefused(RequestError):
    http_status = 403


class HostRefused(RequestError):
    http_status = 421


class NotFound(RequestError):
    http_status = 404


class BodyTooLarge(RequestError):
    http_status = 413


class UnsupportedMedia(RequestError):
    http_status = 415


class Unprocessable(RequestError):
    http_status = 422


class Overloaded(RequestError):
    http_status = 503
