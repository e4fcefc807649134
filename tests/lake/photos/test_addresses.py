"""Addresses: what is not public is not asked, in whatever way it is written."""

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ConfigError
from etalage.lake.photos.addresses import (
    Guard,
    Hosts,
    check_port,
    literal,
    networks,
    refusal,
    system_look_up,
)
from etalage.lake.photos.states import Ended, State

CLOSED = [
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback, its end"),
    ("0.0.0.0", "unspecified: Linux connects it to itself"),
    ("0.1.2.3", "this network"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private, its end"),
    ("192.168.1.1", "private"),
    ("169.254.169.254", "metadata of clouds"),
    ("169.254.0.1", "link-local"),
    ("100.64.0.1", "carriers' NAT"),
    ("100.100.100.200", "metadata of a cloud, in carriers' NAT"),
    ("192.0.0.192", "protocol assignments; metadata of a cloud"),
    ("192.0.2.1", "documentation"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("192.88.99.1", "6to4 relay"),
    ("198.18.0.1", "benchmarks"),
    ("198.19.255.255", "benchmarks, its end"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::7f00:1", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "mapped loopback"),
    ("::ffff:169.254.169.254", "mapped metadata"),
    ("::ffff:0:127.0.0.1", "translated"),
    ("64:ff9b::7f00:1", "NAT64 of loopback"),
    ("64:ff9b::a9fe:a9fe", "NAT64 of metadata"),
    ("64:ff9b:1::1", "local NAT64"),
    ("2002:7f00:1::", "6to4 of loopback"),
    ("2002:a9fe:a9fe::1", "6to4 of metadata"),
    ("2002:c0a8:101::1", "6to4 of 192.168.1.1"),
    ("2001::1", "Teredo"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("2001:db8::1", "documentation"),
    ("2001:10::1", "ORCHID"),
    ("3fff::1", "documentation"),
    ("100::1", "discard"),
    ("fc00::1", "unique local"),
    ("fd00:ec2::254", "metadata of a cloud"),
    ("fe80::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("2606:4700::1%eth0", "with a scope"),
    ("5f00::1", "segment routing"),
    ("4000::1", "not given out"),
]
OPEN = ["93.184.216.34", "8.8.8.8", "1.1.1.1", "172.32.0.1", "172.15.255.255", "100.128.0.1", "192.0.1.1",
        "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::200e", "2001:4860:4860::8888",
        "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"]  # fmt: skip


@pytest.mark.parametrize(("address", "what"), CLOSED, ids=[address for address, _ in CLOSED])
def test_f40_an_address_that_is_not_public_is_refused(address: str, what: str) -> None:
    assert refusal(ipaddress.ip_address(address)) is not None, what


@pytest.mark.parametrize("address", OPEN)
def test_f40_a_public_address_is_not_refused(address: str) -> None:
    assert refusal(ipaddress.ip_address(address)) is None


@settings(deadline=None)
@given(st.ip_addresses())
def test_f40_what_python_calls_private_is_refused(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """But for what stands for an IPv4 address, which Pythons before 3.11.4 call private whatever it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.sixtofour is not None:
        return
    if address.is_private or address.is_loopback or address.is_multicast or address.is_link_local:
        assert refusal(address) is not None


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_f40_an_address_in_disguise_is_as_the_address(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for disguised in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert (refusal(ipaddress.IPv6Address(disguised)) is None) == (refusal(address) is None)


@pytest.mark.parametrize(
    ("host", "means"),
    [
        ("2130706433", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0x7F000001", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("10.1.2", "10.1.0.2"),
        ("[::1]", "::1"),
        ("8.8.8.8", "8.8.8.8"),
        ("shop.example", None),
        ("decade", None),
        ("127.0.0.1.example", None),
        ("1.2.3.4.5", None),
        ("", None),
        ("0x", None),
        ("999.1", None),
    ],
)
def test_f40_an_address_is_known_however_it_is_written(host: str, means: str | None) -> None:
    assert literal(host) == (None if means is None else ipaddress.ip_address(means))


def test_f40_a_network_that_is_named_is_allowed_and_no_other() -> None:
    allowed = networks(["127.0.0.0/8", "fd00:1::/32"])
    assert refusal(ipaddress.ip_address("127.0.0.1"), allowed) is None
    assert refusal(ipaddress.ip_address("::ffff:127.0.0.1"), allowed) is None
    assert refusal(ipaddress.ip_address("fd00:1::5"), allowed) is None
    assert refusal(ipaddress.ip_address("fd00:2::5"), allowed) is not None
    assert refusal(ipaddress.ip_address("10.0.0.1"), allowed) is not None


def test_a_network_that_is_none_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="allow_networks"):
        networks(["loopback"])


@pytest.mark.parametrize("port", [80, 443, 1024, 8080, 65535])
def test_ports_of_the_web_are_asked(port: int) -> None:
    check_port(port)


@pytest.mark.parametrize("port", [22, 25, 110, 143, 0, 1023])
def test_other_ports_are_not(port: int) -> None:
    with pytest.raises(Ended) as ended:
        check_port(port)
    assert ended.value.outcome.state is State.refused_by_policy


HOSTS = {
    "shop.test": "127.0.0.1:8081",
    "shop.test:443": "127.0.0.2:8443",
    "*.shop.test": "127.0.0.3",
    "*.deep.shop.test": "[::1]:8082",
    "six.test": "::1",
}


@pytest.mark.parametrize(
    ("host", "port", "place"),
    [
        ("shop.test", 80, ("127.0.0.1", 8081)),
        ("shop.test", 443, ("127.0.0.2", 8443)),
        ("cdn.shop.test", 80, ("127.0.0.3", 80)),
        ("a.b.shop.test", 81, ("127.0.0.3", 81)),
        ("x.deep.shop.test", 80, ("::1", 8082)),
        ("six.test", 80, ("::1", 80)),
        ("test", 80, None),
        ("myshop.test", 80, None),
    ],
)
def test_hosts_answers_for_names_exactly_or_beneath(
    host: str, port: int, place: tuple[str, int] | None
) -> None:
    found = Hosts(HOSTS).find(host, port)
    assert found == (None if place is None else (ipaddress.ip_address(place[0]), place[1]))


NO_PLACES = ["localhost:80", "127.0.0.1:", "127.0.0.1:70000", "", "[::1]80", "127.0.0.1:0"]


@pytest.mark.parametrize("value", NO_PLACES)
def test_a_host_that_is_no_address_is_a_config_error(value: str) -> None:
    with pytest.raises(ConfigError, match=r"\[photos\] hosts: shop\.test"):
        Hosts({"shop.test": value})


def test_a_mapped_host_is_checked_all_the_same() -> None:
    with pytest.raises(Ended, match="not public"):
        asyncio.run(Guard(Hosts(HOSTS), ()).places("shop.test", 80))


def test_a_name_without_an_address_is_refused() -> None:
    async def nothing(name: str) -> list[str]:
        return []

    with pytest.raises(Ended, match="no address"):
        asyncio.run(Guard(Hosts({}), (), look_up=nothing).places("shop.test", 80))


def test_this_machines_resolver_knows_this_machine() -> None:
    assert set(asyncio.run(system_look_up("localhost"))) & {"127.0.0.1", "::1"}


@pytest.mark.parametrize(("number", "state"), [(socket.EAI_NONAME, State.dead), (socket.EAI_AGAIN, None)])
def test_f47_a_name_that_is_none_is_told_from_dns_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, number: int, state: State | None
) -> None:
    def fails(*args: object, **named: object) -> None:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(OSError if state is None else Ended) as caught:
        asyncio.run(system_look_up("shop.example"))
    if isinstance(caught.value, Ended):
        assert caught.value.outcome.state is state
