"""Whose a request is: the key's where there are several, else the address's. Only digests of keys go to the cluster."""

import hashlib
import hmac
import ipaddress
import os

from fastapi import Request

from actors.serving.api_errors import ApiError
from pipeline.errors import ConfigError


def read_digests(variable: str | None) -> tuple[bytes, ...]:
    """SHA-256 of every key in an environment variable; none where no key is asked for.

    Raises:
        ConfigError: there is no key, or one that no client can send.
    """
    if variable is None:
        return ()
    keys = os.environ.get(variable, "").replace(",", " ").split()
    if not keys:
        raise ConfigError(f"serve.api_key_env: the environment variable {variable} is not set")
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigError(f"serve.api_key_env: a key in {variable} has characters that no HTTP header can carry")
    return tuple(_digest(key) for key in keys)


def client_of(request: Request, digests: tuple[bytes, ...]) -> str:
    """Whose request it is; how long this takes tells nothing about the keys.

    Raises:
        ApiError: 401.
    """
    address = network_of(request.client.host if request.client else "")
    if not digests:
        return address
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = _digest(key.strip())
    known = [hmac.compare_digest(given, digest) for digest in digests]
    if not any(known) or scheme.lower() != "bearer":
        headers = {"WWW-Authenticate": "Bearer"}
        raise ApiError(401, "the API key is missing or wrong", None, "invalid_api_key", headers)
    return f"key {known.index(True)}" if len(known) > 1 else address


def network_of(address: str) -> str:
    """An address, or of IPv6 the network that one client has to itself."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{ip}/64", strict=False)) if ip.version == 6 else address


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
