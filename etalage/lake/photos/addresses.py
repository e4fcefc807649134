"""Where a connection may go: names → addresses, checked before and used for the connection (F40, F41).

A link is somebody else's text. It must not make this machine ask its own network for something: not by a
private address, not by one that means a private one in disguise, not by a name whose answer changes.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from etalage.errors import ConfigError
from etalage.lake.photos.states import Ended, State

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
LookUp = Callable[[str], Awaitable[Sequence[str]]]
"""A name → its addresses, as DNS has them. Raises OSError (socket.gaierror) when there are none."""

# IANA's special-purpose registries (RFC 6890 and its updates), without what is routed globally. Written out,
# as Python's `is_global` changes with its version and lets through multicast and embedded addresses.
_CLOSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this network", RFC 791; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # shared by carriers' NAT, RFC 6598; some clouds' metadata
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, RFC 3927; clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_OPEN_6 = ipaddress.ip_network("2000::/3")
"""The only global unicast space that IANA gives out of (RFC 4291)."""
_CLOSED_6 = tuple(
    ipaddress.ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments, with Teredo (2001::/32) and ORCHID
        "2001:db8::/32",  # documentation, RFC 3849
        "3fff::/20",  # documentation, RFC 9637
        "5f00::/16",  # segment routing, RFC 9602
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = (80, 443)
_FIRST_FREE_PORT = 1024


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why nothing may be asked of this address; None where it may. `allowed`: the exceptions."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return f"{address} is of one link only"
    if any(address in network for network in allowed):
        return None
    inner = _embedded(address)
    if inner is not None:
        why = refusal(inner, allowed)
        return None if why is None else f"{address} holds {inner}, and {why}"
    if isinstance(address, IPv4Address):
        return next((f"{address} is in {net}, not public" for net in _CLOSED if address in net), None)
    if address not in _OPEN_6:
        return f"{address} is not a public address"
    return next((f"{address} is in {net}, not public" for net in _CLOSED_6 if address in net), None)


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that a connection to this IPv6 address would reach."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour


def literal(host: str) -> Address | None:
    """The address that `host` is, also as C reads it (`127.1`, `2130706433`, `0x7f.1`); None: a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    if not host or not set(host.lower()) <= set("0123456789abcdefx."):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def check_port(port: int) -> None:
    """Raises Ended: mail, shells and the like listen there, and no photos lie."""
    if port not in _PORTS and port < _FIRST_FREE_PORT:
        raise Ended(State.refused_by_policy, f"port {port} is not one of the web's")


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Raises ConfigError that names [photos] allow_networks."""
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ConfigError(f'[photos] allow_networks: {error}; write networks like "10.1.0.0/16"') from error


class Hosts:
    """[photos] hosts: names that are answered for here. Raises ConfigError: a value is no address."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._exact: dict[str, tuple[Address, int | None]] = {}
        self._beneath: dict[str, tuple[Address, int | None]] = {}
        for name, value in given.items():
            where = self._beneath if name.startswith("*.") else self._exact
            where[name.lower().removeprefix("*.")] = _address_and_port(name, value)

    def find(self, host: str, port: int) -> tuple[Address, int] | None:
        """Where `host` is, and at which port what is asked of `port` is; None: DNS knows."""
        found = self._exact.get(f"{host}:{port}") or self._exact.get(host)
        above = host
        while found is None and "." in above:
            above = above.partition(".")[2]
            found = self._beneath.get(f"{above}:{port}") or self._beneath.get(above)
        return None if found is None else (found[0], found[1] or port)


def _address_and_port(name: str, value: str) -> tuple[Address, int | None]:
    bracketed = value.startswith("[")
    text, colon, port = value.rpartition(":") if bracketed or value.count(":") == 1 else (value, "", "")
    if bracketed and value.endswith("]"):
        text, colon, port = value, "", ""
    try:
        if colon and not 0 < int(port) < 65536:
            raise ValueError(f"{port} is not a port")
        return ipaddress.ip_address(text.strip("[]")), int(port) if colon else None
    except ValueError as error:
        raise ConfigError(
            f'[photos] hosts: {name} = "{value}": {error}; write an address, or address:port'
        ) from error


class Guard:
    """Where the host of a URL may be connected to.

    local_only: no contact is set, so nothing but loopback is asked.
    """

    def __init__(
        self,
        hosts: Hosts,
        allowed: Sequence[Network],
        local_only: bool = False,
        look_up: LookUp | None = None,
    ) -> None:
        self._hosts = hosts
        self._allowed = allowed
        self._local_only = local_only
        self._look_up = look_up or system_look_up

    async def places(self, host: str, port: int) -> list[tuple[Address, int]]:
        """Addresses and ports, each checked; only these may be connected to.

        Raises Ended: refused_by_policy, dead (no such name). OSError: DNS did not answer.
        """
        mapped, ours = self._hosts.find(host, port), literal(host)
        if mapped is not None:
            found = [mapped]
        elif ours is not None:
            found = [(ours, port)]
        else:
            found = [(ipaddress.ip_address(text), port) for text in await self._look_up(host)]
        refusals = [refusal(address, self._allowed) for address, _ in found]
        good = [place for place, why in zip(found, refusals, strict=True) if why is None]
        if not good:
            why = next((why for why in refusals if why), "the name has no address")
            raise Ended(State.refused_by_policy, why)
        if self._local_only and not all(address.is_loopback for address, _ in good):
            why = "[photos] contact is not set, and this is another machine"
            raise Ended(State.refused_by_policy, why, lasting=False)
        return good


async def system_look_up(name: str) -> list[str]:
    """The addresses that this machine's resolver gives. Raises Ended (dead), OSError as `LookUp`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            raise Ended(State.dead, f"{name}: no such name in DNS", lasting=False) from error
        raise
    except UnicodeError as error:
        raise Ended(State.invalid, f"{name} is no name that DNS can have") from error
    return list(dict.fromkeys(str(address[4][0]) for address in found))
