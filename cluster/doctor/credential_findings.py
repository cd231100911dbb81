"""The token and the certificates that Ray and our shards would use here, as findings."""

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

MAKE = "make one with `ray get-auth-token --generate`, and give every node the same"


def credentials(environment: Mapping[str, str]) -> list[Finding]:
    """What is to say on the token and on TLS, where these are the environment variables."""
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
        aside = f"; the token in {token.source} is not used" if token else ""
        return Finding("WARN", f"{MODE} is disabled{aside}", "set it to token where others reach the network")
    if mode == "token" and token is None:
        return Finding("FAIL", f"{MODE} is token, but there is no token here", MAKE)
    switch = f"{MODE} is token" if mode else f"{MODE} is not set"
    found = f"the token comes from {token.source}, fingerprint {token.fingerprint}" if token else None
    return Finding("OK", f"{switch}, {found or 'there is no token: a Ray started here makes one'}")


def _tls(environment: Mapping[str, str]) -> Finding:
    named = [name for name in (CERTIFICATE, KEY, AUTHORITIES) if environment.get(name)]
    try:
        tls = shards_tls(environment)
    except CredentialsError as error:
        return Finding("FAIL", str(error), "docs/security.md says what the certificate must hold")
    if tls is not None:
        return Finding("OK", "TLS is on, and its certificate, key and CA fit each other")
    if named:
        return Finding("WARN", f"{', '.join(named)} is set, but {USE_TLS} is not: nothing is encrypted", "set it to 1")
    return Finding("OK", f"TLS is off ({USE_TLS})")
