"""Where a server is and how it is reached: URL, headers with the key, the proxy on the way.

The proxy is the one the environment names (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, less
``NO_PROXY``), as for any other program. It opens no connection.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import urllib.request
from dataclasses import dataclass

import httpcore2
import httpx2

from poise.errors import UsageError

__all__ = ["Address", "target"]


@dataclass(frozen=True, slots=True)
class Address:
    """A server as its connections see it.

    ``shown``: the base URL without user and password, for messages. ``key``: what no message may
    repeat. ``headers`` go with every request; a user in the URL stands above the key.
    """

    shown: str
    key: str
    chat: httpcore2.URL
    models: httpcore2.URL
    completions: httpcore2.URL
    headers: tuple[tuple[bytes, bytes], ...]
    proxy: httpx2.Proxy | None

    @classmethod
    def of(cls, base_url: str, api_key: str | None) -> Address:
        """Raises UsageError for a URL, a key or a proxy that makes no sense."""
        url, key = _url(base_url), _header_key(api_key)
        headers = [
            (b"Host", url.netloc),
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", b"gzip"),
            (b"User-Agent", b"poise"),
        ]
        if url.userinfo:
            login = base64.b64encode(f"{url.username}:{url.password}".encode())
            headers.append((b"Authorization", b"Basic " + login))
        elif key:
            headers.append((b"Authorization", f"Bearer {key}".encode()))
        return cls(
            shown=str(url.copy_with(userinfo=b"")) if url.userinfo else base_url,
            key=key,
            chat=target(httpx2.URL(base_url + "/chat/completions")),
            models=target(httpx2.URL(base_url + "/models")),
            completions=target(httpx2.URL(base_url + "/completions")),
            headers=tuple(headers),
            proxy=_proxy(url),
        )

    @property
    def secure(self) -> bool:
        """Whether the server is spoken to over TLS."""
        return self.chat.scheme == b"https"


def _url(base_url: str) -> httpx2.URL:
    if not base_url.startswith(("http://", "https://")):
        raise UsageError(f"base URL {base_url!r}: must start with http:// or https://")
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise UsageError(f"base URL {base_url!r}: {error}") from error
    if not url.host or (url.port or 1) > 65535:
        raise UsageError(f"base URL {base_url!r}: must name a host, and a port up to 65535 if any")
    return url


def target(url: httpx2.URL) -> httpcore2.URL:
    """``url`` as the connections take it."""
    return httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _header_key(api_key: str | None) -> str:
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError("the API key holds characters that no HTTP header can carry")
    return key


def _proxy(url: httpx2.URL) -> httpx2.Proxy | None:
    """The proxy that the environment names for ``url``."""
    named = urllib.request.getproxies()
    proxy = named.get(url.scheme) or named.get("all")
    if not proxy or urllib.request.proxy_bypass(url.netloc.decode()):
        return None
    if _in_network(url.host, named.get("no", "")):
        return None
    try:
        return httpx2.Proxy(proxy if "://" in proxy else f"http://{proxy}")
    except (ValueError, httpx2.InvalidURL) as error:
        raise UsageError(
            "the proxy that the environment names cannot be used: it must be a URL that starts with"
            " http://, https:// or socks5://"
        ) from error


def _in_network(host: str, listed: str) -> bool:
    """Whether ``host`` is an address inside one of the networks (10.0.0.0/8) in ``listed``."""
    for entry in listed.split(","):
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return False
