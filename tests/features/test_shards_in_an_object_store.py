"""A training's table in an object store: the same shards, read through the store's URI."""

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from deltalake import write_deltalake

from etalage.features.example_stream import ExampleStream
from etalage.features.shards import Shards
from etalage.features.table_encoder import fit_table
from tests.features.example_tables import drawn

pytestmark = pytest.mark.slow
KEYS = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true", "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server on loopback, told by the environment as in production."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(
        Bucket="shop"
    )
    yield "s3://shop"
    server.stop()


def test_a_table_at_an_uri_is_read_as_a_stream(bucket: str) -> None:
    uri, table = f"{bucket}/clicks", drawn(600)
    for at in (0, 300):
        write_deltalake(uri, table.slice(at, 300), mode="append")
    shards = Shards(uri)
    assert (len(shards), shards.count, shards.version) == (2, 600, 1)
    assert all(shard.path.startswith(f"{uri}/part-") for shard in shards.shards)
    stream = ExampleStream(shards, fit_table(shards, ("label",)), 2**20, seed=0)
    found = [stream.batch(0, at, at + 64)[1] for at in range(0, stream.count("train"), 64)]
    assert len(np.unique(np.concatenate(found))) == stream.count("train")
    # Another worker opens it by the same environment.
    other = pickle.loads(pickle.dumps(stream))  # noqa: S301
    assert np.array_equal(other.batch(0, 0, 64)[1], found[0])
