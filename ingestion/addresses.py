"""Addresses of machines: which are this very one's own, and how they stand in a URL."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(address: str) -> bool:
    """Whether the host name or address means this very machine; text that is neither does not."""
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def http_url(host: str, port: int) -> str:
    """Where the server on this host and port is reached by HTTP."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
