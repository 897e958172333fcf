"""Addresses of machines: which ones are this machine's own, and how a URL shows them."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

# Some proxies write a port too: 192.0.2.1:443, [2001:db8::1]:443. Others write only the brackets.
_WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):\d{1,5}|\[(?P<v6>[^\]]+)\](:\d{1,5})?")


@lru_cache(maxsize=1024)
def is_loopback(address: str) -> bool:
    """Whether the host name or address means this machine. Any other text gives False."""
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def http_url(host: str, port: int) -> str:
    """The HTTP address of the server on this host and port."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def client_address(peer: str, forwarded: str, *, proxies: int) -> str | None:
    """The address of the client behind this many trusted proxies; None if it is unknown.

    `peer` is the other end of the connection, and `forwarded` is the X-Forwarded-For header. Each
    proxy adds its own peer at the right. Anything further left was written by the sender. An IPv6
    address counts as its /64 network, because a client with one address there has all of them.
    """
    address = _parsed(peer)
    hops = forwarded.split(",")
    if proxies and len(hops) >= proxies:
        address = _parsed(hops[-proxies]) or address
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Network((int(address), 64), strict=False)[0]
    return None if address is None else str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    text = text.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found["v4"] or found["v6"]
    try:
        return ip_address(text)
    except ValueError:
        return None
