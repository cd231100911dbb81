"""Authentication and encryption of calls to the shards, by the variables that Ray reads. Standard library only.

Every call to a shard carries a secret, a new one at each start of a run, so that processes left of an earlier start are
rejected. Where the cluster has a token, the secret is derived from the token and a nonce, and only the nonce travels
through Ray: a process without the cluster's token cannot derive the secret.
"""

import hashlib
import hmac
import os
import pwd
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ps.rpc.tls import Tls

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
USE_TLS, CERTIFICATE, KEY, AUTHORITIES = "RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"

Environment = Mapping[str, str]

_WHITESPACE = " \t\n\r\f\v"


class CredentialsError(ValueError):
    """A token or a certificate is missing or does not fit; the message is one sentence and holds no secret."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterToken:
    """The token that all nodes of a cluster share.

    Attributes:
        value: the token.
        source: `RAY_AUTH_TOKEN`, or the path of its file.
    """

    value: str = field(repr=False)
    source: str

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits by which the tokens of two nodes can be compared without being revealed."""
        return _derive(self.value, "fingerprint", "")[:8]


def cluster_token(environment: Environment) -> ClusterToken | None:
    """Return the token as Ray finds it: `RAY_AUTH_TOKEN`, the file `RAY_AUTH_TOKEN_PATH`, or `~/.ray/auth_token`.

    `None` if there is none, or if `RAY_AUTH_MODE` is `disabled`, so that no process needs one.

    Raises:
        CredentialsError: the token is blank, or the named file has none.
    """
    if environment.get(MODE, "").lower() == "disabled":
        return None
    if given := environment.get(TOKEN):
        if not (token := given.strip(_WHITESPACE)):
            raise CredentialsError(f"{TOKEN} must hold a token or be unset, got only blanks")
        return ClusterToken(value=token, source=TOKEN)
    if named := environment.get(TOKEN_PATH):
        if not (token := _first_line(Path(named))):
            raise CredentialsError(f"{TOKEN_PATH} must name a file with a token in its first line, got {named!r}")
        return ClusterToken(value=token, source=named)
    usual = _home(environment) / ".ray" / "auth_token"
    token = _first_line(usual)
    return ClusterToken(value=token, source=str(usual)) if token else None


def make_token(environment: Environment, value: str) -> None:
    """Write a token for a Ray that is about to start here, if there is none; other users could read Ray's own file.

    Args:
        environment: of this process.
        value: the token to write.

    Raises:
        CredentialsError: see `cluster_token`; or it cannot be written.
    """
    if environment.get(MODE, "token").lower() != "token" or cluster_token(environment) is not None:
        return
    path = _home(environment) / ".ray" / "auth_token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value)
    except OSError as error:
        raise CredentialsError(
            f"HOME is {str(_home(environment))!r}, but Ray's token cannot be written to {path} ({error.strerror}): set"
            f" HOME to a folder that can be written, or {TOKEN} to a token of your own"
        ) from error


def sending_token(environment: Environment) -> dict[str, str]:
    """Return the environment with the setting by which Ray's calls carry the token, if there is one.

    Ray makes that setting by itself where it starts a cluster, but not where it joins one.
    """
    if environment.get(MODE):
        return dict(environment)
    try:
        token = cluster_token(environment)
    except CredentialsError:  # `check_credentials` reports it
        token = None
    return {**environment, MODE: "token"} if token else dict(environment)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunToken:
    """The part of the shards' secret that travels through Ray; each process of a run adds the cluster's token.

    Attributes:
        nonce: random, a new one at each start of a run; without a cluster's token it is the secret.
        check: a digest by which a process verifies that its token is the driver's; `None` if the driver has none.
    """

    nonce: str = field(repr=False)
    check: str | None = field(repr=False)

    @classmethod
    def new(cls, environment: Environment, nonce: str) -> "RunToken":
        """Make the run's token, in the driver, at each start of the run.

        Args:
            environment: the driver's.
            nonce: random, printable ASCII.

        Raises:
            CredentialsError: see `cluster_token`.
        """
        token = cluster_token(environment)
        return cls(nonce=nonce, check=_derive(token.value, "check", nonce) if token else None)

    def secret(self, environment: Environment, node: str) -> str:
        """Return the secret that every call to the shards carries, printable ASCII.

        Args:
            environment: of this process.
            node: its address, for the error.

        Raises:
            CredentialsError: the driver has a token, and this process has none or another one.
        """
        if self.check is None:
            return self.nonce
        token = cluster_token({**environment, MODE: "token"})  # the driver's mode is what counts
        if token is None:
            raise CredentialsError(
                f"node {node} must have the cluster's token that the driver has ({TOKEN}, {TOKEN_PATH} or"
                f" ~/.ray/auth_token), got none; or set {MODE}=disabled for the driver"
            )
        if not hmac.compare_digest(_derive(token.value, "check", self.nonce), self.check):
            raise CredentialsError(
                f"node {node} must have the cluster's token that the driver has, got another one, from {token.source}"
            )
        return _derive(token.value, "secret", self.nonce)


def shards_tls(environment: Environment, host: str | None = None) -> Tls | None:
    """Return this process's part of mutual TLS by Ray's variables; `None` unless `RAY_USE_TLS` is 1 or true.

    The files are tested in a handshake within this process.

    Args:
        environment: of this process; the files are on its node.
        host: the address of the shards that this process serves, which the certificate must contain; `None` for a
            client.

    Raises:
        CredentialsError: a variable is missing, a file cannot be used, or the three do not fit each other or the host.
    """
    if environment.get(USE_TLS, "").lower() not in ("1", "true"):
        return None
    certificate, key, authorities = (_named_file(environment, name) for name in (CERTIFICATE, KEY, AUTHORITIES))
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in server, client:
        _load(context, certificate, key, authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    client.check_hostname = host is not None
    try:
        _shake_hands(server, client, host)
    except ssl.SSLError as error:
        held = f" and hold {host} as a subject alternative name" if host else ""
        reason = str(getattr(error, "verify_message", None) or error.reason or error).rstrip(".")
        raise CredentialsError(
            f"{CERTIFICATE} must be valid now for servers and clients, be signed by {AUTHORITIES}{held}, got"
            f" {str(certificate)!r}: {reason}"
        ) from error
    return Tls(key=key.read_bytes(), certificate=certificate.read_bytes(), authorities=authorities.read_bytes())


def check_credentials(environment: Environment, host: str | None = None) -> None:
    """Raise `CredentialsError` if this process could not call the run's shards, or not serve them at `host`."""
    cluster_token(environment)
    shards_tls(environment, host)


def _home(environment: Environment) -> Path:
    if home := environment.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container's user without an entry
        return Path()


def _derive(token: str, purpose: str, nonce: str) -> str:
    message = f"nascluster shards {purpose} {nonce}".encode()
    return hmac.new(token.encode(errors="surrogateescape"), message, hashlib.sha256).hexdigest()


def _first_line(path: Path) -> str:
    """Return the first line without blanks around it; empty if the file cannot be read, as for Ray."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().strip(_WHITESPACE)
    except OSError:
        return ""


def _named_file(environment: Environment, variable: str) -> Path:
    if not (named := environment.get(variable)):
        raise CredentialsError(f"{variable} must name a PEM file where {USE_TLS} is set, but it is not set")
    try:
        Path(named).read_bytes()
    except OSError as error:
        raise CredentialsError(f"{variable} must name a PEM file, got {named!r} ({error.strerror})") from error
    return Path(named)


def _load(context: ssl.SSLContext, certificate: Path, key: Path, authorities: Path) -> None:
    """Load the files; raise `CredentialsError` naming the variable of the file that does not fit."""
    for variable, path in (AUTHORITIES, authorities), (CERTIFICATE, certificate):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except ssl.SSLError as error:
            raise CredentialsError(f"{variable} must hold PEM certificates, got {str(path)!r}") from error
    context.load_verify_locations(cafile=authorities)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # otherwise OpenSSL asks the terminal for one
    except (ssl.SSLError, ValueError) as error:
        raise CredentialsError(
            f"{KEY} must hold the private key of {CERTIFICATE}, PEM without a password, got {str(key)!r}"
        ) from error


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None) -> None:
    """Perform the TLS handshake between the two in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    calling = client.wrap_bio(to_client, to_server, server_hostname=host)
    ends = [calling, server.wrap_bio(to_server, to_client, server_side=True)]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
