"""What /metrics tells. One registry per application: two servers in one process do not mix."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Gauges:
    """Requests, reloads, the bundle in use, the queue."""

    def __init__(self, scoring: Callable[[], int], keeping: Callable[[], int]) -> None:
        """Both are asked at each scrape: how many requests wait for the scorer, and for the keeper."""
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("etalage_requests", "Answered requests.", labels, registry=self.registry)
        self._seconds = Histogram(
            "etalage_request_seconds",
            "Time from the request's head to the answer's end.",
            ("route",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._reloads = Counter("etalage_reloads", "Bundles taken over.", ("result",), registry=self.registry)
        for result in ("ok", "failed"):
            self._reloads.labels(result)
        self._store_failures = Counter(
            "etalage_online_store_failures", "Calls of the online store that failed.", registry=self.registry
        )
        self._dropped = Counter(
            "etalage_dropped",
            "Requests whose client went away, or whose deadline passed, before they were finished.",
            ("why", "work"),
            registry=self.registry,
        )
        for why in ("gone", "deadline"):
            for work in ("begun", "not begun"):
                self._dropped.labels(why, work)
        self._late = Counter(
            "etalage_late", "Answers that were made after their deadline.", registry=self.registry
        )
        self._unknown = Counter(
            "etalage_events_unknown",
            "Events on items, or of kinds, that the bundle does not know; `etalage collect` holds them back.",
            ("what",),
            registry=self.registry,
        )
        for what in ("item", "kind"):
            self._unknown.labels(what)
        self._failing = Gauge(
            "etalage_reload_failing",
            "1 while the published bundle cannot be opened and an older one serves.",
            registry=self.registry,
        )
        self._bundle = Gauge(
            "etalage_bundle_info", "The bundle that serves.", ("bundle",), registry=self.registry
        )
        self._models = Gauge(
            "etalage_model_info",
            "A model of that bundle.",
            ("bundle", "model", "hash"),
            registry=self.registry,
        )
        self._items = Gauge("etalage_items", "Items of the bundle that serves.", registry=self.registry)
        for name, help_text, waiting in (
            ("etalage_waiting", "Requests that wait for the scorer.", scoring),
            ("etalage_waiting_writes", "Requests that wait to write to the online store.", keeping),
        ):
            Gauge(name, help_text, registry=self.registry).set_function(waiting)

    def watch_store(self, degraded: Callable[[], bool], refusing: Callable[[], bool]) -> None:
        """Both are asked at each scrape: whether slates go on without the online store, and whether it takes
        no events."""
        for name, help_text, asked in (
            ("etalage_online_store_degraded", "1 while slates lack what the online store knew.", degraded),
            ("etalage_online_store_refusing", "1 while the online store takes no events.", refusing),
        ):
            Gauge(name, help_text, registry=self.registry).set_function(asked)

    def dropped(self, why: str, begun: bool) -> None:
        """Work that nobody waits for any more was not finished."""
        self._dropped.labels(why, "begun" if begun else "not begun").inc()

    def late(self) -> None:
        """An answer was made after its deadline."""
        self._late.inc()

    def store_failed(self) -> None:
        """A call of the online store failed."""
        self._store_failures.inc()

    def unknown_events(self, items: int, kinds: int) -> None:
        """Count events on items, and of kinds, that the bundle does not know."""
        self._unknown.labels("item").inc(items)
        self._unknown.labels("kind").inc(kinds)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def reloaded(self, bundle: str, models: Mapping[str, str], items: int) -> None:
        """A bundle was taken over. models: name → hash."""
        self._reloads.labels("ok").inc()
        self._failing.set(0)
        self._bundle.clear()
        self._bundle.labels(bundle).set(1)
        self._models.clear()
        for model, digest in models.items():
            self._models.labels(bundle, model, digest[:12]).set(1)
        self._items.set(items)

    def reload_failed(self) -> None:
        """The published bundle could not be opened."""
        self._reloads.labels("failed").inc()
        self._failing.set(1)

    def healed(self) -> None:
        """The pointer is back on the bundle that serves."""
        self._failing.set(0)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
