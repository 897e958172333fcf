"""Whose failed tries to sign in are counted together."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest


def counted_address(request: HttpRequest) -> str | None:
    """The address that a try to sign in counts for; None where there is none, as on a socket file.

    Behind `TRUSTED_PROXIES` proxies it is what the outermost of them saw: each adds its peer at the
    right of X-Forwarded-For, and what stands further left is the sender's own text. Of an IPv6
    address the network counts: who has one address there has all of them.
    """
    text = request.META.get("REMOTE_ADDR", "")
    if proxies := settings.TRUSTED_PROXIES:
        hops = request.headers.get("X-Forwarded-For", "").split(",")
        if len(hops) >= proxies and _parsed(hops[-proxies]):
            text = hops[-proxies]
    address = _parsed(text)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Network((address, 64), strict=False).network_address
    return None if address is None else str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.strip())
    except ValueError:
        return None
