"""Start the storefront: on loopback, with nothing sent anywhere but to the server."""

import importlib.util
import os

from etalage.errors import ConfigError, installing

HOST = "127.0.0.1"
NEEDED = {"jinja2": "jinja2", "python_multipart": "python-multipart"}
"""Modules of the extra `page`, and their packages."""


def run(
    url: str,
    port: int,
    compare: str | None = None,
    hosts: tuple[str, ...] = (),
    name: str | None = None,
) -> None:
    """Serve the page at 127.0.0.1:port for the server at `url`, until SIGTERM or Ctrl-C.

    `compare`: a second server, whose slates are shown beside the first one's. `hosts`: names of the page
    beside loopback's. `name`: the shop's; None: ETALAGE_NAME. The servers' keys, if they have such, are taken
    from the environment alone (ETALAGE_KEY, ETALAGE_COMPARE_KEY): a command line can be read by everybody on
    the machine. Raises ConfigError: a package is missing; ServeError: the port is in use.
    """
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"{' and '.join(missing)} not installed: {installing('page')}")
    import uvicorn

    from etalage.page.app import PageSettings, create_app
    from etalage.web.listening import Announced, bound, log_to_stderr, print_url, url_of

    settings = PageSettings(
        url,
        os.environ.get("ETALAGE_KEY") or None,
        name or os.environ.get("ETALAGE_NAME") or "Étalage",
        compare or os.environ.get("ETALAGE_COMPARE_URL") or None,
        os.environ.get("ETALAGE_COMPARE_KEY") or None,
        hosts,
    )
    app = create_app(settings)
    listening = bound(HOST, port)
    log_to_stderr("etalage", "uvicorn")
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    try:
        Announced(config, url_of(listening), print_url).run(sockets=[listening])
    finally:
        listening.close()
