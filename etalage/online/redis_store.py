"""The online store in Redis, for shops that are served by several machines.

Keys, all beneath one prefix (`etalage`, or `?prefix=` of the URI):

    id               of this store: a Redis that was emptied gets another
    ids              hash: event_id → number
    acts             hash: number → JSON [event_id, user_id, item_id, kind, value, time]
    log              sorted set: numbers of events by number
    of:<user>        sorted set: numbers (zero-padded) by time
    recent           sorted set: users by their newest time
    quarantined      hash: event_id → JSON
    items            hash: item_id → JSON;  changes: counter
    checked          when it was last tried whether Redis takes writes
    erased           hash: digest of a user_id → when they were erased;  erased_events  set of digests
    seeds            generation;  seed:<generation>:<user>  list of JSON, oldest first

Durable as Redis is told to be: `appendonly yes` with `appendfsync always` syncs before it answers.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from etalage.api import Act, Event
from etalage.errors import ConfigError, StoreUnavailable, installing
from etalage.lake.erasures import digest
from etalage.online.contract import (
    PATIENT,
    About,
    Appended,
    Patience,
    act_is_erased,
    checked_changes,
    clock,
    merged_change,
    new_store_id,
    sorted_out,
)

log = logging.getLogger(__name__)

_TIMELESS = -(2**53) - 1
"""The score of an act without a time: before all others."""
_AT_ONCE = 1000
_MOST_LOOKED_AT = 100_000
"""Acts of one shopper that are looked through for what they have."""
# Atomic, so that a repeated event cannot slip in between question and answer; and so that a Redis that was
# emptied a moment ago has an id of its own before it has events.
_APPEND = """
redis.call('SET', KEYS[7], ARGV[1], 'NX')
local accepted, erased = 0, 0
for n = 2, #ARGV, 5 do
  local event_id, user_id, act = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local time = cjson.decode(act)[6]
  local at = redis.call('HGET', KEYS[8], ARGV[n + 3])
  if (at and time <= tonumber(at)) or redis.call('SISMEMBER', KEYS[9], ARGV[n + 4]) == 1 then
    erased = erased + 1
  elseif redis.call('HEXISTS', KEYS[1], event_id) == 0 then
    local number = redis.call('INCR', KEYS[5])
    redis.call('HSET', KEYS[1], event_id, number)
    redis.call('HSET', KEYS[2], number, act)
    redis.call('ZADD', KEYS[3], number, number)
    redis.call('ZADD', KEYS[6] .. user_id, string.format('%.0f', time), string.format('%016d', number))
    redis.call('ZADD', KEYS[4], 'GT', string.format('%.0f', time), user_id)
    accepted = accepted + 1
  end
end
return {accepted, erased}
"""


class RedisStore:
    """See LiveStore."""

    def __init__(self, client: Any, prefix: str = "etalage", reader: Any = None) -> None:
        """`client`: a redis.Redis that decodes answers to text; `reader`: another one, for what a slate waits
        for."""
        self._client = client
        self._reader = client if reader is None else reader
        self.prefix = prefix
        self._items: tuple[tuple[str, int], dict[str, dict[str, Any]]] | None = None
        self._seen: About | None = None

    @classmethod
    def open(cls, uri: str, patience: Patience = PATIENT) -> "RedisStore":
        """Raises ConfigError: the client is not installed, or no such URI. StoreUnavailable: no answer."""
        try:
            import redis  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"live store {uri}: the Redis client is not installed; {installing('redis')}"
            ) from error
        parts = urlsplit(uri)
        options = parse_qs(parts.query)
        prefix = options.pop("prefix", ["etalage"])[0]
        query = "&".join(f"{key}={value}" for key, values in options.items() for value in values)
        plain = urlunsplit(parts._replace(query=query))
        try:
            store = cls(_client(plain, patience.writing), prefix, _client(plain, patience.reading))
        except ValueError as error:
            raise ConfigError(f"live store: {error}") from error
        with store._errors():
            store._client.ping()
            store._warn_of_eviction()
        return store

    # -- acts ----------------------------------------------------------------------------------

    def append(self, events: Sequence[Event]) -> Appended:
        """See LiveStore.append."""
        good, bad = sorted_out(events, clock())
        names = ("ids", "acts", "log", "recent", "number", "of:", "id", "erased", "erased_events")
        keys = [self._key(name) for name in names]
        accepted = erased = 0
        with self._errors():
            for start in range(0, len(good), _AT_ONCE):
                some = good[start : start + _AT_ONCE]
                arguments = [text for event in some for text in _arguments(event)]
                done = self._client.eval(_APPEND, len(keys), *keys, new_store_id(), *arguments)
                accepted, erased = accepted + int(done[0]), erased + int(done[1])
            held = [(event, reason) for event, reason in bad if not self._is_erased(event)]
            for event, reason in held:
                text = json.dumps([event.user_id, _written(event), reason])
                self._client.hset(self._key("quarantined"), event.event_id, text)
        repeated, erased = len(good) - accepted - erased, erased + len(bad) - len(held)
        return Appended(accepted, repeated, len(held), tuple(r for _, r in held[:10]), erased)

    def _is_erased(self, event: Event) -> bool:
        at = self._client.hget(self._key("erased"), digest(event.user_id))
        if act_is_erased(None if at is None else int(at), event.act):
            return True
        return bool(self._client.sismember(self._key("erased_events"), digest(event.event_id)))

    def history(self, user_id: str, limit: int, lasting: Callable[[str], bool] | None = None) -> list[Act]:
        """See LiveStore.history."""
        newest = self._newest(user_id, limit)
        if lasting is None or len(newest) < limit:
            return newest
        every = self._newest(user_id, _MOST_LOOKED_AT)[:-limit]
        known = {(act.item_id, act.kind, act.value) for act in newest}
        older = {(act.item_id, act.kind, act.value): act for act in every if lasting(act.kind)}
        for one in known & older.keys():
            del older[one]
        return [*sorted(older.values(), key=_moment), *newest]

    def _newest(self, user_id: str, limit: int) -> list[Act]:
        user_id = _valid_utf8(user_id)
        if limit < 1:
            return []
        with self._errors():
            pipe = self._reader.pipeline(transaction=False)
            pipe.zrevrange(self._key(f"of:{user_id}"), 0, limit - 1)
            pipe.get(self._key("seeds"))
            numbers, generation = pipe.execute()
            pipe = self._reader.pipeline(transaction=False)
            pipe.hmget(self._key("acts"), [str(int(n)) for n in numbers] or ["none"])
            pipe.lrange(self._key(f"seed:{generation}:{user_id}"), -limit, -1)
            written, seeded = pipe.execute()
        appended = [_read(text).act for text in reversed(written) if text is not None]
        acts = [Act(*json.loads(text)) for text in seeded] + appended
        # Stable: seeds before events of the same time.
        acts.sort(key=_moment)
        return acts[-limit:]

    def events(self, after: int, limit: int) -> list[tuple[int, Event]]:
        """See LiveStore.events."""
        with self._errors():
            numbers = self._client.zrangebyscore(self._key("log"), f"({after}", "+inf", start=0, num=limit)
            written = self._client.hmget(self._key("acts"), numbers) if numbers else []
        pairs = zip(numbers, written, strict=True)
        return [(int(number), _read(text)) for number, text in pairs if text is not None]

    def users(self, limit: int) -> list[str]:
        """See LiveStore.users."""
        with self._errors():
            found: list[str] = self._client.zrevrange(self._key("recent"), 0, limit - 1) if limit > 0 else []
        return found

    def erase(self, user_id: str) -> int:
        """See LiveStore.erase."""
        user_id = _valid_utf8(user_id)
        with self._errors():
            # First: what comes in from here on is theirs again, and the rest is read below, and goes.
            self._client.hset(self._key("erased"), digest(user_id), clock())
            return self._forget(user_id) + self._forget_quarantined({digest(user_id): None})

    def forget(self, erased: Mapping[str, int]) -> int:
        """See LiveStore.forget."""
        with self._errors():
            known = self._client.hgetall(self._key("erased"))
            fresh = {user: at for user, at in erased.items() if at > int(known.get(user, -1))}
            if not fresh:
                return 0
            self._client.hset(self._key("erased"), mapping=fresh)
            users = self._client.zrange(self._key("recent"), 0, -1)
            theirs = ((user_id, fresh.get(digest(user_id))) for user_id in users)
            gone = sum(self._forget(user_id, until) for user_id, until in theirs if until is not None)
            return gone + self._forget_quarantined(fresh)

    def _forget(self, user_id: str, until: int | None = None) -> int:
        """Delete what a shopper did until then, or all; how many acts. Their events are not taken again."""
        of_user = self._key(f"of:{user_id}")
        members = self._client.zrangebyscore(of_user, "-inf", "+inf" if until is None else until)
        numbers = [str(int(n)) for n in members]
        written = self._client.hmget(self._key("acts"), numbers) if numbers else []
        events = [_read(text).event_id for text in written if text is not None]
        # Of the seeds that hold, and of those that are being written or were left by a kill.
        hold = int(self._client.get(self._key("seeds")) or 0)
        last = int(self._client.get(self._key("generation")) or 0)
        seeds = [self._key(f"seed:{n}:{user_id}") for n in range(hold, max(hold, last) + 1)]
        seeded = {key: self._client.lrange(key, 0, -1) for key in seeds}
        lasting = {
            key: [text for text in texts if not _is_before(until, Act(*json.loads(text)))]
            for key, texts in seeded.items()
        }
        pipe = self._client.pipeline()
        pipe.delete(*seeds)
        for key, texts in lasting.items():
            if texts:
                pipe.rpush(key, *texts)
        if numbers:
            pipe.zrem(of_user, *members)
            pipe.hdel(self._key("acts"), *numbers)
            pipe.zrem(self._key("log"), *numbers)
        if events:
            pipe.hdel(self._key("ids"), *events)
            pipe.sadd(self._key("erased_events"), *[digest(name) for name in events])
        pipe.execute()
        if not self._client.exists(of_user, *seeds):
            self._client.zrem(self._key("recent"), user_id)
        return len(numbers) + len(seeded[seeds[0]]) - len(lasting[seeds[0]])

    def _forget_quarantined(self, erased: Mapping[str, int | None]) -> int:
        """The same for events that were held apart; erased: digest of a user_id → until when, None: all."""
        theirs = []
        for event_id, text in self._client.hgetall(self._key("quarantined")).items():
            user_id, event, _ = json.loads(text)
            name = digest(user_id)
            if name in erased and _is_before(erased[name], _read(event).act):
                theirs.append(event_id)
        if theirs:
            pipe = self._client.pipeline()
            pipe.sadd(self._key("erased_events"), *[digest(name) for name in theirs])
            pipe.hdel(self._key("quarantined"), *theirs)
            pipe.execute()
        return len(theirs)

    def remains(self) -> tuple[str, ...]:
        """See LiveStore.remains. Redis keeps what it was told in files, until it writes them anew."""
        return ("Redis' own files and replicas, until it writes them anew: BGREWRITEAOF and BGSAVE do",)

    def seed(self, acts: Iterable[tuple[str, Act]]) -> int:
        """See LiveStore.seed. Grouped by shopper in memory; the old seeds hold until the new are there."""
        by_user: dict[str, list[Act]] = {}
        for user_id, act in acts:
            by_user.setdefault(user_id, []).append(act)
        seeded = 0
        with self._errors():
            self._leave_erased(by_user)
            generation = int(self._client.incr(self._key("generation")))
            names = list(by_user)
            for start in range(0, len(names), _AT_ONCE):
                pipe = self._client.pipeline(transaction=False)
                for user_id in names[start : start + _AT_ONCE]:
                    fresh = self._unknown(user_id, by_user[user_id])
                    seeded += len(fresh)
                    if fresh:
                        key = self._key(f"seed:{generation}:{user_id}")
                        pipe.delete(key)  # what a cut connection made of it before
                        texts = [json.dumps([a.item_id, a.kind, a.value, a.time]) for a in fresh]
                        pipe.rpush(key, *texts)
                        newest = max(_TIMELESS if a.time is None else a.time for a in fresh)
                        pipe.zadd(self._key("recent"), {user_id: newest}, gt=True)
                pipe.execute()
            self._client.set(self._key("id"), new_store_id(), nx=True)

            def turn_over(pipe: Any) -> None:
                """The new seeds hold, less those of shoppers who were erased while they were written."""
                left = self._leave_erased(by_user, pipe)
                pipe.multi()
                if left:
                    pipe.delete(*[self._key(f"seed:{generation}:{user_id}") for user_id in left])
                    pipe.zrem(self._key("recent"), *left)
                pipe.set(self._key("seeds"), generation)

            self._client.transaction(turn_over, self._key("erased"))
            held = self._key(f"seed:{generation}:")
            for key in self._client.scan_iter(literal(self._key("seed:")) + "*", count=_AT_ONCE):
                if not key.startswith(held):
                    self._client.delete(key)
        return seeded

    def _leave_erased(self, by_user: dict[str, list[Act]], client: Any = None) -> list[str]:
        """Take out what shoppers did before they were erased; whose acts there were any of."""
        erased = (client or self._client).hgetall(self._key("erased"))
        left = []
        for user_id in list(by_user) if erased else ():
            at = erased.get(digest(user_id))
            if at is not None:
                lasting = [act for act in by_user[user_id] if not act_is_erased(int(at), act)]
                if len(lasting) < len(by_user[user_id]):
                    left.append(user_id)
                by_user[user_id] = lasting
        return left

    def _unknown(self, user_id: str, acts: list[Act]) -> list[Act]:
        """Those that are not there as events, oldest first."""
        key = self._key(f"of:{user_id}")
        known: set[tuple[str, str, int | None]] = set()
        if self._client.exists(key):
            numbers = [int(n) for n in self._client.zrange(key, 0, -1)]
            events = [_read(text) for text in self._client.hmget(self._key("acts"), numbers) if text]
            known = {(e.act.item_id, e.act.kind, e.act.time) for e in events}
        fresh = [a for a in acts if a.time is None or (a.item_id, a.kind, a.time) not in known]
        return sorted(fresh, key=lambda act: _TIMELESS if act.time is None else act.time)

    # -- items ---------------------------------------------------------------------------------

    def set_items(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """See LiveStore.set_items. Of two writers of one item at once, one starts again."""
        checked, now, key = checked_changes(changes), clock(), self._key("items")

        def change(pipe: Any) -> None:
            names = list(checked)
            before = pipe.hmget(key, names) if names else []
            pipe.multi()
            for name, text in zip(names, before, strict=True):
                kept = merged_change(None if text is None else json.loads(text), checked[name], now)
                if kept:
                    pipe.hset(key, name, json.dumps(kept))
                else:
                    pipe.hdel(key, name)
            pipe.incr(self._key("changes"))
            pipe.set(self._key("id"), new_store_id(), nx=True)

        with self._errors():
            self._client.transaction(change, key)

    def items(self) -> dict[str, dict[str, Any]]:
        """See LiveStore.items."""
        known = self._items
        with self._errors():
            count, about = self._look(self._reader)
            self._seen = about
            if known is not None and known[0] == (about.store_id, count):
                return known[1]
            pipe = self._reader.pipeline()  # count and changes of one moment
            pipe.get(self._key("changes"))
            pipe.hgetall(self._key("items"))
            counted, rows = pipe.execute()
        found = {item_id: json.loads(change) for item_id, change in rows.items()}
        self._items = ((about.store_id, int(counted or 0)), found)
        return found

    # -- the store -----------------------------------------------------------------------------

    @property
    def seen(self) -> About | None:
        """See LiveStore.seen."""
        return self._seen

    def about(self) -> About:
        """See LiveStore.about."""
        with self._errors():
            return self._look(self._client)[1]

    def _look(self, client: Any) -> tuple[int, About]:
        """How often items changed, and which store it is."""
        names = [self._key(name) for name in ("changes", "id", "seeds")]
        count, store_id, seeds = client.mget(names)
        if store_id is None:  # a new one, or one that was emptied
            client.set(names[1], new_store_id(), nx=True)
            store_id = client.get(names[1])
        return int(count or 0), About(str(store_id), seeds is not None)

    def check(self, really: bool = False) -> None:
        """See LiveStore.check. Redis says whether it takes writes only when it is given one."""
        with self._errors():
            self._client.set(self._key("checked"), clock())

    def _warn_of_eviction(self) -> None:
        import redis

        try:
            memory = self._client.info("memory")
        except redis.ResponseError:  # a managed Redis that does not tell
            return
        policy = str(memory.get("maxmemory_policy", ""))
        if policy.startswith("allkeys"):
            log.warning("Redis drops keys when its memory is full (%s), events too: set noeviction", policy)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()
        self._reader.close()

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    def _errors(self) -> AbstractContextManager[None]:
        return redis_errors("the online store in Redis")


def _client(uri: str, seconds: float) -> Any:
    """Waits so long for an answer. A connection that Redis has closed is opened again, once."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    again = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return redis.Redis.from_url(
        uri,
        decode_responses=True,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        socket_keepalive=True,
        retry=again,
    )


def _arguments(event: Event) -> tuple[str, ...]:
    """As _APPEND takes them."""
    digests = digest(event.user_id), digest(event.event_id)
    return event.event_id, event.user_id, _written(event), *digests


def _written(event: Event) -> str:
    act = event.act
    return json.dumps([event.event_id, event.user_id, act.item_id, act.kind, act.value, act.time])


def _read(text: str) -> Event:
    event_id, user_id, *act = json.loads(text)
    return Event(event_id, user_id, Act(*act))


def _moment(act: Act) -> int:
    return _TIMELESS if act.time is None else act.time


def _is_before(until: int | None, act: Act) -> bool:
    """Whether the act goes with what was done until then; None: all does."""
    return until is None or act_is_erased(until, act)


@contextmanager
def redis_errors(what: str) -> Iterator[None]:
    """What the client raises as StoreUnavailable, which says that `what` cannot be used."""
    import redis

    try:
        yield
    except redis.RedisError as error:
        raise StoreUnavailable(f"{what} cannot be used: {error}; is the server up?") from error


def literal(text: str) -> str:
    """`text` as a pattern that fits only itself."""
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in text)


def _valid_utf8(user_id: str) -> str:
    return user_id.encode("utf-8", "replace").decode("utf-8") if not user_id.isascii() else user_id
