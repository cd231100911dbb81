"""The token and the certificates that Ray would use here. Pure: the environment and the files come in.

Ray's order for the token: `RAY_AUTH_TOKEN`, the file that `RAY_AUTH_TOKEN_PATH` names, `~/.ray/auth_token`.
https://docs.ray.io/en/latest/ray-security/token-auth.html
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.doctor.finding import Finding

Read = Callable[[Path], str | None]
"""A file's text; `None` if it cannot be read."""

CERTIFICATES = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")

USUAL_TOKEN = Path("~/.ray/auth_token")

MAKE = "make one with `ray get-auth-token --generate`, and give every node the same"


def read_file(path: Path) -> str | None:
    """See `Read`."""
    try:
        return path.expanduser().read_text()
    except OSError:
        return None


def credentials(environment: Mapping[str, str], read: Read = read_file) -> list[Finding]:
    """What is to say on the token and on TLS."""
    return [_token(environment, read), _tls(environment, read)]


def _token(environment: Mapping[str, str], read: Read) -> Finding:
    source, problem = _source(environment, read)
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    if mode == "disabled":
        aside = f"; the token in {source} is not used" if source else ""
        return Finding("WARN", f"RAY_AUTH_MODE is disabled{aside}", "set it to token where others reach the network")
    if mode not in ("", "token"):
        return Finding("FAIL", f"RAY_AUTH_MODE is {mode!r}", "set it to token or disabled")
    if problem:
        return Finding("FAIL", problem, MAKE)
    if mode == "token" and source is None:
        return Finding("FAIL", "RAY_AUTH_MODE is token, but there is no token here", MAKE)
    switch = "RAY_AUTH_MODE is token" if mode else "RAY_AUTH_MODE is not set"
    where = f"the token comes from {source}" if source else "there is no token: a Ray started here makes one"
    return Finding("OK", f"{switch}, {where}")


def _source(environment: Mapping[str, str], read: Read) -> tuple[str | None, str]:
    """Where the token is, and what is wrong with it."""
    if "RAY_AUTH_TOKEN" in environment:
        empty = not environment["RAY_AUTH_TOKEN"].strip()
        return "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN is set and empty" if empty else ""
    if path := environment.get("RAY_AUTH_TOKEN_PATH"):
        token = read(Path(path))
        if token is None:
            return None, f"RAY_AUTH_TOKEN_PATH names {path}, which cannot be read"
        return path, "" if token.strip() else f"RAY_AUTH_TOKEN_PATH names {path}, which is empty"
    token = read(USUAL_TOKEN)
    if token is not None and not token.strip():
        return str(USUAL_TOKEN), f"{USUAL_TOKEN} is empty"
    return (str(USUAL_TOKEN) if token else None), ""


def _tls(environment: Mapping[str, str], read: Read) -> Finding:
    named = {name: environment[name] for name in CERTIFICATES if environment.get(name)}
    if environment.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        if named:
            return Finding(
                "WARN", f"{', '.join(named)} is set, but RAY_USE_TLS is not: nothing is encrypted", "set RAY_USE_TLS=1"
            )
        return Finding("OK", "TLS is off (RAY_USE_TLS)")
    if missing := [name for name in CERTIFICATES if name not in named]:
        return Finding(
            "FAIL", f"RAY_USE_TLS is set without {' and '.join(missing)}", "name the certificate, its key and the CA"
        )
    for name, path in named.items():
        if read(Path(path)) is None:
            return Finding("FAIL", f"{name} names {path}, which cannot be read", "put it there, readable")
    return Finding("OK", "TLS is on, its certificate, key and CA can be read")
