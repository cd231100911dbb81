"""Checks the token and the certificates that Ray and the shards would use on this machine."""

from collections.abc import Mapping

from cluster.doctor.finding import Finding
from cluster.runners.on_ray.credentials import (
    AUTHORITIES,
    CERTIFICATE,
    KEY,
    MODE,
    USE_TLS,
    CredentialsError,
    cluster_token,
    shards_tls,
)

MAKE = "make one with `ray get-auth-token --generate`, and copy it to every node"


def credentials(environment: Mapping[str, str]) -> list[Finding]:
    """Return the findings on the token and on TLS under these environment variables."""
    return [_token(environment), _tls(environment)]


def _token(environment: Mapping[str, str]) -> Finding:
    mode = environment.get(MODE, "").lower()
    if mode not in ("", "token", "disabled"):
        return Finding("FAIL", f"{MODE} is {mode!r}", "set it to token or disabled")
    try:
        token = cluster_token({**environment, MODE: "token"})
    except CredentialsError as error:
        return Finding("FAIL", str(error), MAKE)
    if mode == "disabled":
        note = f"; the token in {token.source} is ignored" if token else ""
        return Finding("WARN", f"{MODE} is disabled{note}", "set it to token if others can reach the network")
    if mode == "token" and token is None:
        return Finding("FAIL", f"{MODE} is token, but there is no token here", MAKE)
    switch = f"{MODE} is token" if mode else f"{MODE} is not set"
    source = f"the token comes from {token.source}, fingerprint {token.fingerprint}" if token else None
    return Finding("OK", f"{switch}, {source or 'there is no token: a Ray started here generates one'}")


def _tls(environment: Mapping[str, str]) -> Finding:
    named = [name for name in (CERTIFICATE, KEY, AUTHORITIES) if environment.get(name)]
    try:
        tls = shards_tls(environment)
    except CredentialsError as error:
        return Finding("FAIL", str(error), "see docs/security.md for what the certificate must contain")
    if tls is not None:
        return Finding("OK", "TLS is on, and its certificate, key and CA match")
    if named:
        return Finding("WARN", f"{', '.join(named)} is set, but {USE_TLS} is not: nothing is encrypted", "set it to 1")
    return Finding("OK", f"TLS is off ({USE_TLS})")
