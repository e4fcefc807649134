"""How long do W workers take for millions of links at thousands of hosts that must not be hurried, and why?

    python benchmarks/fetch_simulation.py [--links 36000000] [--hosts 10000]

No request is made: hosts are drawn, and the fetch is played through in simulated time, by the rules that
`etalage photos fetch` keeps (lake/photos/shard.py, pacing.py, [photos]'s defaults): a host belongs to one
worker; a worker goes through its hosts, those with the most links first, so many of them at a time; a host is
asked at most `per_host` times at once, and every `spacing` seconds; a worker has `connections`, and one core.
Between two moments at which a host ends, all that are being asked go on at steady rates.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.config import PhotosConfig  # noqa: E402
from etalage.lake.photos.estimate import BUSY_SECONDS  # noqa: E402
from etalage.lake.photos.shard import shard_of  # noqa: E402

WORKERS = (1, 2, 4, 8, 16, 64, 256)
HOSTS_A_CONNECTION = 4
SHAPES = {
    "no giant: log-normal, sigma 1.5": lambda rng, hosts: rng.lognormal(0, 1.5, hosts),
    "Zipf, exponent 1": lambda rng, hosts: 1 / np.arange(1, hosts + 1),
    "one host has a fifth": lambda rng, hosts: np.append(rng.lognormal(0, 1.5, hosts - 1), 0.0),
}
"""How many links hosts have, in proportion."""
NOTE = (
    "{links:,} links of {hosts:,} hosts; simulated, no request is made. Drawn for each host: seconds of an "
    "answer, log-normal with a median of 0.25 and sigma 0.5; 3% are down (6 attempts of 10 s and the pauses "
    "between them, then all their links have failed); 5% ask for a Crawl-delay of 1 s, 1% for 10 s; 3% let "
    "one link in 20 run into the deadline of 30 s, the others one in 500, each tried 3 times; 2% answer 429 "
    "with a pause of 60 s every 1,000 links. A photo costs {busy:g} s of processor time "
    "(benchmarks/photos_fetch.py). [photos] as it is by default: spacing {spacing:g} s, {per_host} at once "
    "to a host, {connections} connections a worker. `hash of the host`: who asks a host as fetch decides it; "
    "`largest first`: the host with the most work to the worker with the least, the best that sorting does. "
    "`limit`: the largest of three that no order of work undercuts: the slowest host, all requests over all "
    "connections, all processor time over all workers; the last column of the case says which. Intervals: "
    "lowest and highest of {seeds} draws, values their median."
)


@dataclass(frozen=True)
class Hosts:
    """H hosts. links_H: what there is to ask; seconds_H: of one link by one connection, waits in it;
    each_H: seconds from link to link at best; fixed_H: seconds whatever the links."""

    links_H: np.ndarray
    seconds_H: np.ndarray
    each_H: np.ndarray
    fixed_H: np.ndarray

    @property
    def alone_H(self) -> np.ndarray:
        """Seconds that each host takes, with all of a worker to itself."""
        return self.links_H * self.each_H + self.fixed_H


def drawn(shape: str, links: int, hosts: int, config: PhotosConfig, rng: np.random.Generator) -> Hosts:
    """Hosts of that shape, which misbehave as NOTE says."""
    size = np.asarray(SHAPES[shape](rng, hosts), dtype=np.float64)
    if shape == "one host has a fifth":
        size[-1] = size.sum() / 4
    links_H = np.maximum(1, np.round(size / size.sum() * links))
    timeouts = np.where(rng.random(hosts) < 0.03, 0.05, 0.002)
    seconds_H = rng.lognormal(np.log(0.25), 0.5, hosts) + timeouts * config.deadline * config.tries
    spacing = np.full(hosts, config.spacing)
    delays = rng.random(hosts)
    spacing[delays < 0.06], spacing[delays < 0.01] = 1.0, 10.0
    each_H = np.maximum(spacing, seconds_H / config.per_host)
    each_H = each_H + np.where(rng.random(hosts) < 0.02, 60 / 1000, 0.0)
    fixed_H = np.zeros(hosts)
    down = rng.random(hosts) < 0.03
    pauses = sum(config.backoff * 2**n for n in range(config.give_up - 1))
    fixed_H[down] = config.give_up * config.connect_seconds + pauses
    links_H[down] = 0
    return Hosts(links_H, seconds_H, each_H, fixed_H)


def assigned_by_hash(hosts: int, workers: int) -> np.ndarray:
    """(H,) the worker of each host, as `fetch` has it."""
    return np.array([shard_of(f"photos-{n}.example", workers) for n in range(hosts)])


def assigned_largest_first(work_H: np.ndarray, workers: int) -> np.ndarray:
    """(H,) the worker of each host: the most work first, to whoever has the least (Graham, 1969)."""
    import heapq

    owner = np.empty(len(work_H), dtype=np.int64)
    least = [(0.0, worker) for worker in range(workers)]
    for host in np.argsort(-work_H, kind="stable").tolist():
        has, worker = heapq.heappop(least)
        owner[host] = worker
        heapq.heappush(least, (has + float(work_H[host]), worker))
    return owner


def simulated(hosts: Hosts, mine: np.ndarray, config: PhotosConfig) -> float:
    """Seconds until one worker is through with the hosts `mine`, those with the most links first."""
    order = mine[np.argsort(-hosts.links_H[mine], kind="stable")]
    total = hosts.links_H[order] + hosts.fixed_H[order] / hosts.each_H[order]  # down: as links that wait
    rate = 1 / hosts.each_H[order]
    asks = np.where(hosts.links_H[order] > 0, rate, 0.0)
    held, busy = asks * hosts.seconds_H[order], asks * BUSY_SECONDS
    at_once = HOSTS_A_CONNECTION * config.connections
    active = np.arange(min(at_once, len(order)))
    left, coming, clock = total[active].copy(), len(active), 0.0
    while len(active):
        crowd = max(1.0, float(held[active].sum()) / config.connections, float(busy[active].sum()))
        step = float((left / rate[active]).min()) * crowd
        clock += step
        left -= rate[active] / crowd * step
        stays = left > 1e-9 * total[active]
        gone = int((~stays).sum())
        fresh = np.arange(coming, min(coming + gone, len(order)))
        active, left = np.append(active[stays], fresh), np.append(left[stays], total[fresh])
        coming += len(fresh)
    return clock


def limits(hosts: Hosts, workers: int, config: PhotosConfig) -> dict[str, float]:
    """What no order of work undercuts, in seconds."""
    requests = float((hosts.links_H * hosts.seconds_H).sum())
    return {
        "the slowest host": float(hosts.alone_H.max()),
        "connections": requests / (config.connections * workers),
        "processors": float(hosts.links_H.sum()) * BUSY_SECONDS / workers,
    }


def makespan(hosts: Hosts, owner_H: np.ndarray, workers: int, config: PhotosConfig) -> float:
    """Seconds until the last worker is through."""
    return max(simulated(hosts, np.flatnonzero(owner_H == one), config) for one in range(workers))


def main(
    links: Annotated[int, typer.Option(min=1)] = 36_000_000,
    hosts: Annotated[int, typer.Option(min=2)] = 10_000,
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    small: Small = False,
    out: Out = None,
) -> None:
    bench, config = Run.of("fetch_simulation", small, out), PhotosConfig()
    workers = WORKERS[:4] if small else WORKERS
    if small:
        links, hosts, seeds = 40_000, 200, 2
    rows = []
    for shape in SHAPES:
        for count in workers:
            found: dict[str, list[float]] = {"hash of the host": [], "largest first": [], "limit": []}
            why: list[str] = []
            for seed in range(seeds):
                drew = drawn(shape, links, hosts, config, np.random.default_rng(seed))
                work = np.maximum(
                    drew.links_H * drew.seconds_H / config.connections, drew.links_H * BUSY_SECONDS
                )
                by_hash = makespan(drew, assigned_by_hash(hosts, count), count, config)
                largest = makespan(drew, assigned_largest_first(work, count), count, config)
                bounds = limits(drew, count, config)
                why.append(max(bounds, key=bounds.__getitem__))
                for name, value in zip(found, (by_hash, largest, max(bounds.values())), strict=True):
                    found[name].append(value / 3600)
            case = f"{shape}; {count} workers; {max(set(why), key=why.count)}"
            for name, hours in found.items():
                rows.append(Row(case, name, "hours", float(np.median(hours)), min(hours), max(hours), "h"))
            print(
                case, {name: round(float(np.median(hours)), 1) for name, hours in found.items()}, flush=True
            )
    bench.write(
        rows,
        command=f"python benchmarks/fetch_simulation.py --links {links} --hosts {hosts} --seeds {seeds}",
        seeds=list(range(seeds)),
        packages=["numpy"],
        note=NOTE.format(
            links=links, hosts=hosts, busy=BUSY_SECONDS, spacing=config.spacing, per_host=config.per_host,
            connections=config.connections, seeds=seeds,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    run_main(main)
