"""Objects of a bucket by the S3 API: read, listed, and written so that of two writers one is told.

`ObjectStore` is boto3's client under the few verbs that tables and bundles need. What makes everything above
it safe is the conditional PUT: `create` (If-None-Match) and `replace` (If-Match) raise `Taken` where another
writer was faster. A PUT whose answer was lost is found out by reading back: contents that two writers could
both mean must hold something of their own.

Credentials come from where the AWS SDKs look: the environment, ~/.aws, the instance. delta-rs is given the
same ones (`options`), so that there is one way to find them, and one to go wrong.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from etalage.errors import ConfigError, ObjectStoreError, installing
from etalage.lake.places import Place

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 60, 4
"""A store that is gone is told within some 20 seconds."""
_AT_ONCE = 1000
"""Keys of one DELETE."""
T = TypeVar("T")


class Taken(Exception):
    """A conditional PUT found that another writer was there before."""


@dataclass(frozen=True)
class Stored:
    """One object without its content."""

    name: str
    """Beneath the store's place."""
    bytes: int
    etag: str
    """Another one for every other content."""
    age: float = 0.0
    """Seconds since it was written, by the store's own clock. Of `head` alone."""


@dataclass(frozen=True)
class Read:
    """One object with its content."""

    content: bytes
    etag: str


class ObjectStore:
    """What lies beneath `place`. Names are relative to it. Threads may share it; it opens no connection
    before it is asked something.

    Every method raises ObjectStoreError: the store is unreachable, refuses the credentials, has no such
    bucket; what to do is said. Raises ConfigError: boto3 is missing.
    """

    def __init__(self, place: Place, connection: "Connection | None" = None) -> None:
        self.place = place
        self._given = connection

    def at(self, name: str) -> "ObjectStore":
        """The same beneath `name`."""
        return ObjectStore(self.place.at(name), self._connection)

    # -- reading -------------------------------------------------------------------------------

    def read(self, name: str, before: Read | None = None) -> Read | None:
        """An object; None: there is none. before: as it was read last, which comes back where that is all
        there is: then no body is sent."""
        more = {} if before is None else {"IfNoneMatch": before.etag}

        def ask() -> Read:
            found = self._client.get_object(**self._key(name), **more)
            return Read(found["Body"].read(), found["ETag"])

        try:
            return self._asked(ask, name, absent=(404,), taken=(304,))
        except Taken:
            return before

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        """The bytes [start, end) of an object; None: there is none."""

        def ask() -> bytes:
            found = self._client.get_object(**self._key(name), Range=f"bytes={start}-{end - 1}")
            return bytes(found["Body"].read())

        return self._asked(ask, name, absent=(404,))

    def head(self, name: str) -> Stored | None:
        """What is known of an object; None: there is none."""

        def ask() -> Stored:
            found = self._client.head_object(**self._key(name))
            now = found["ResponseMetadata"]["HTTPHeaders"].get("date")
            at = parsedate_to_datetime(now) if now else datetime.now(UTC)
            age = (at - found["LastModified"]).total_seconds()
            return Stored(name, int(found["ContentLength"]), found["ETag"], age)

        return self._asked(ask, name, absent=(404,))

    def list(self, prefix: str = "", after: str = "") -> Iterator[Stored]:
        """The objects whose names begin with `prefix` and stand behind `after`, by name; a request a
        thousand."""
        own = self.place.prefix
        wanted = {"Bucket": self.place.bucket, "Prefix": own + prefix}
        more = {"StartAfter": own + after} if after else {}
        while True:
            page = self._asked(partial(self._client.list_objects_v2, **wanted, **more), prefix)
            assert page is not None
            for one in page.get("Contents", ()):
                yield Stored(one["Key"].removeprefix(own), int(one["Size"]), one["ETag"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def download(self, name: str, file: Path) -> bool:
        """Write an object into `file`, in parts; False: there is none. Raises OSError: the disk."""

        def ask() -> bool:
            body = self._client.get_object(**self._key(name))["Body"]
            with file.open("wb") as out:
                for block in body.iter_chunks(1 << 20):
                    out.write(block)
            return True

        return bool(self._asked(ask, name, absent=(404,)))

    def require(self) -> None:
        """Raises ObjectStoreError where nothing can be listed there; else nothing happens."""
        next(self.list(), None)

    # -- writing -------------------------------------------------------------------------------

    def put(self, name: str, content: bytes) -> str:
        """Write an object whatever was there → its ETag."""
        return str(self._put(name, content)["ETag"])

    def create(self, name: str, content: bytes) -> str:
        """Write an object that must not be there yet → its ETag. Raises Taken."""
        return self._won(name, content, {"IfNoneMatch": "*"})

    def replace(self, name: str, content: bytes, etag: str) -> str:
        """Write an object in the place of the one with `etag` → its new ETag. Raises Taken: it has another by
        now, or is gone."""
        return self._won(name, content, {"IfMatch": etag})

    def upload(self, name: str, file: Path) -> None:
        """Write a file as an object, in parts where it is large; the store checks what arrives. Raises
        OSError: it cannot be read."""
        with file.open("rb") as opened:
            self._asked(
                lambda: self._client.upload_fileobj(
                    opened,
                    self.place.bucket,
                    self.place.prefix + name,
                    ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                ),
                name,
            )

    def delete(self, names: Iterable[str]) -> int:
        """Remove objects, also such as are gone already; how many were named."""
        left = [{"Key": self.place.prefix + name} for name in names]
        for start in range(0, len(left), _AT_ONCE):
            wanted = {"Objects": left[start : start + _AT_ONCE], "Quiet": True}
            ask = partial(self._client.delete_objects, Bucket=self.place.bucket, Delete=wanted)
            done: Any = self._asked(ask, "")
            for one in done.get("Errors", ())[:1]:
                raise ObjectStoreError(
                    f"s3://{self.place.bucket}/{one['Key']}: not removed: {one['Message']}"
                )
        return len(left)

    def _put(self, name: str, content: bytes, **condition: str) -> Any:
        return self._asked(
            lambda: self._client.put_object(**self._key(name), Body=content, **condition),
            name,
            taken=(404, 409, 412),
        )

    def _won(self, name: str, content: bytes, condition: dict[str, str]) -> str:
        try:
            return str(self._put(name, content, **condition)["ETag"])
        except (Taken, ObjectStoreError) as error:
            # An answer may be lost, and the client's own second try then meets what the first one wrote.
            found = self.read(name)
            if found is not None and found.content == content:
                return found.etag
            raise error

    def require_conditions(self) -> None:
        """Raises ObjectStoreError: nothing can be written there, or the store takes a conditional PUT for an
        ordinary one, so that of two writers both would win; tried out."""
        name = f".tried-{secrets.token_hex(8)}"
        try:
            self.create(name, b"first")
            self.create(name, b"second")
        except Taken:
            return
        finally:
            self.delete([name])
        raise ObjectStoreError(
            f"{self.place.uri}: the store does not heed conditional PUTs (If-None-Match), so nothing there "
            "is safe from a second writer, and nothing was written: use another store, or a newer one"
        )

    # -- for delta-rs --------------------------------------------------------------------------

    def options(self) -> dict[str, str]:
        """How delta-rs opens tables here, credentials of this moment included."""
        found = self._credentials()
        options = {
            **self.place.plain_options,
            "AWS_ACCESS_KEY_ID": found.access_key,
            "AWS_SECRET_ACCESS_KEY": found.secret_key,
            "AWS_REGION": str(self._client.meta.region_name),
            "aws_conditional_put": "etag",
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "timeout": f"{READ_SECONDS}s",
            "max_retries": str(ATTEMPTS),
            "retry_timeout": f"{2 * READ_SECONDS}s",
        }
        if found.token:
            options["AWS_SESSION_TOKEN"] = found.token
        return options

    def _credentials(self) -> Any:
        found = self._connection.credentials()
        if found is None:
            raise ObjectStoreError(f"{self.place.uri}: {NO_CREDENTIALS}")
        return found.get_frozen_credentials()

    # -- the client ----------------------------------------------------------------------------

    @cached_property
    def _connection(self) -> "Connection":
        return self._given or connected(self.place)

    @property
    def _client(self) -> Any:
        return self._connection.client

    def _key(self, name: str) -> dict[str, str]:
        return {"Bucket": self.place.bucket, "Key": self.place.prefix + name}

    def _asked(
        self,
        ask: Callable[[], T],
        name: str,
        absent: tuple[int, ...] = (),
        taken: tuple[int, ...] = (),
    ) -> T | None:
        """What `ask` gives. None: the store answered with one of the statuses `absent`. Raises Taken, and
        ObjectStoreError."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return ask()
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code != "NoSuchBucket":
                if status in absent:
                    return None
                if status in taken:
                    raise Taken(f"{self.place.uri}/{name}: {code}") from error
            self._refused(error, code, status, name)
        except (BotoCoreError, S3UploadFailedError) as error:
            self._unreached(error, name)

    def _refused(self, error: Any, code: str, status: int, name: str) -> NoReturn:
        where = f"{self.place.uri}/{name}".rstrip("/")
        said = error.response.get("Error", {}).get("Message", "")
        if code == "NoSuchBucket":
            raise ObjectStoreError(
                f"{where}: there is no bucket {self.place.bucket!r}{self._at_endpoint()}: make it, or mend "
                "[storage] in shop.toml"
            ) from error
        if (
            code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
            or status == 401
        ):
            raise ObjectStoreError(
                f"{where}: the store refuses the credentials ({code}: {said}): put those of this store into "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from error
        if status == 403:
            raise ObjectStoreError(
                f"{where}: access is denied ({code}: {said}): the credentials need s3:ListBucket of the "
                "bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject of what lies in it"
            ) from error
        if status in (301, 307, 400) and code in (
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "301",
            "400",
        ):
            raise ObjectStoreError(
                f"{where}: the bucket is in another region ({code}: {said}): set [storage] region in "
                "shop.toml"
            ) from error
        raise ObjectStoreError(f"{where}: the store refused ({status} {code}: {said})") from error

    def _unreached(self, error: Exception, name: str) -> NoReturn:
        from botocore.exceptions import NoCredentialsError, PartialCredentialsError

        where = f"{self.place.uri}/{name}".rstrip("/")
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            raise ObjectStoreError(f"{where}: {NO_CREDENTIALS}") from error
        said = re.sub(r"\s+", " ", str(error))[:300]
        raise ObjectStoreError(
            f"{where}: the store cannot be reached{self._at_endpoint()}: {said}: is it up, and "
            "[storage] endpoint right? Run it again when it is back"
        ) from error

    def _at_endpoint(self) -> str:
        return f" at {self.place.endpoint}" if self.place.endpoint else ""


NO_CREDENTIALS = (
    "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run "
    "where the instance has a role; shop.toml never holds them"
)


@dataclass(frozen=True)
class Connection:
    """boto3's client, and what gives the credentials that it has at the moment."""

    client: Any
    credentials: Callable[[], Any]


def connected(place: Place) -> Connection:
    """A client for the store of `place`. Raises ConfigError: boto3, or the profile, is missing."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise ConfigError(f"{place.uri}: boto3 is missing; {installing('s3')}") from error
    settings = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        # Other stores than AWS answer by path, and few of them know a bucket's own host name.
        s3={"addressing_style": "path" if place.endpoint else "auto"},
    )
    try:
        session = boto3.session.Session()
        region = place.region or session.region_name or "us-east-1"
        client = session.client("s3", endpoint_url=place.endpoint, region_name=region, config=settings)
        return Connection(client, session.get_credentials)
    except BotoCoreError as error:
        raise ConfigError(
            f"{place.uri}: {error}: mend the settings of AWS in the environment or ~/.aws"
        ) from error
