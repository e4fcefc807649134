"""A local S3 server for tests: moto's, in a process of its own, that answers one request after the other.

moto looks whether a condition holds and writes afterwards, without a lock between: with its usual threads two
conditional PUTs could both win, which S3 rules out. `python -m tests.object_store FILE` is the server.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from etalage.engine.children import child
from etalage.lake.places import Place

BUCKET, REGION = "shop-bucket", "us-east-1"
KEYS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class ObjectServer:
    """Started at once, with an empty bucket; `url` is its endpoint. What it holds goes with its process."""

    def __init__(self, folder: Path) -> None:
        from tests.serve.servers import until  # not in the server's own process

        said, self._down = folder / "url", folder / "down"
        command = [sys.executable, "-m", "tests.object_store", str(folder)]
        self.process = child(command, cwd=Path(__file__).parents[1])
        until(said.exists)
        self.url = said.read_text()
        self.client().create_bucket(Bucket=BUCKET)

    def client(self) -> Any:
        """boto3's, for what only tests do."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )

    def place(self, prefix: str) -> Place:
        """A place in the bucket."""
        return Place(f"s3://{BUCKET}/{prefix}", self.url, REGION)

    def settings(self, prefix: str, *names: str) -> str:
        """[storage] of a shop.toml that has `names` (tables, bundles) here."""
        lines = [f'{name} = "s3://{BUCKET}/{prefix}/{name}"' for name in names]
        return "\n".join(["[storage]", *lines, f'endpoint = "{self.url}"', "allow_http = true", ""])

    def fail(self, failing: bool) -> None:
        """From now on every request is answered by 503, or none is."""
        if failing:
            self._down.touch()
        else:
            self._down.unlink(missing_ok=True)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _serve(folder: Path) -> None:
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Silent(MotoRequestHandler):
        def log(self, *_: Any) -> None:
            pass

    moto, down = DomainDispatcherApplication(create_backend_app), folder / "down"

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if down.exists():
            start_response("503 Service Unavailable", [("content-length", "0")])
            return []
        answer: Iterable[bytes] = moto(environ, start_response)
        return answer

    server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=Silent)
    draft = folder / "url.draft"
    draft.write_text(f"http://127.0.0.1:{server.port}")
    draft.rename(folder / "url")
    server.serve_forever()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
