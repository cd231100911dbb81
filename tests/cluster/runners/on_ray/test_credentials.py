"""The token and the certificates, as Ray's variables give them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.runners.on_ray.credentials import (
    ClusterToken,
    CredentialsError,
    RunToken,
    check_credentials,
    cluster_token,
    make_token,
    sending_token,
    shards_tls,
)
from tests.certificates import Authority, Issued

NONCE = "n" * 43


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("  at-home \nsecond line\n")
    (tmp_path / "token").write_text("in-a-file\r\n")
    (tmp_path / "empty").write_text("\n")
    return tmp_path


def environments(home: Path) -> list[tuple[dict[str, str], str | None]]:
    """Variables, and the token that they give."""
    named = {"RAY_AUTH_TOKEN_PATH": str(home / "token")}
    return [
        ({"RAY_AUTH_TOKEN": "\t given \n"} | named, "given"),
        ({"RAY_AUTH_TOKEN": ""} | named, "in-a-file"),
        (named, "in-a-file"),
        ({"RAY_AUTH_TOKEN_PATH": ""}, "at-home"),
        ({}, "at-home"),
        ({"HOME": str(home / "token")}, None),
    ]


def what_ray_finds(environment: dict[str, str]) -> str:
    ray = "from ray._raylet import AuthenticationTokenLoader as L; l = L.instance()\n"
    ray += "print(l.get_raw_token(ignore_auth_mode=True) if l.has_token(ignore_auth_mode=True) else None)"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")} | environment
    command = [sys.executable, "-c", ray]
    return subprocess.run(command, check=True, env=clean, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("case", range(6))
def test_the_token_is_the_one_that_ray_finds(home: Path, case: int):
    changes, token = environments(home)[case]
    environment = {"HOME": str(home)} | changes
    found = cluster_token(environment)
    assert (found and found.value) == token
    assert what_ray_finds(environment) == str(token)


def test_without_a_home_the_accounts_counts_as_with_ray():
    found = cluster_token({"HOME": ""})
    assert what_ray_finds({"HOME": ""}) == str(found and found.value)


def test_a_disabled_token_is_none(home: Path):
    for mode, token in ("disabled", None), ("Disabled", None), ("token", "given"), ("", "given"):
        found = cluster_token({"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "given", "HOME": str(home)})
        assert (found and found.value) == token


def test_a_token_that_is_there_is_sent_unless_somebody_has_said_otherwise(home: Path):
    there, away = {"HOME": str(home)}, {"HOME": str(home / "token")}
    assert sending_token(there) == there | {"RAY_AUTH_MODE": "token"}
    assert sending_token(there | {"RAY_AUTH_MODE": ""}) == there | {"RAY_AUTH_MODE": "token"}
    for as_it_is in (away, there | {"RAY_AUTH_MODE": "disabled"}, there | {"RAY_AUTH_TOKEN": " "}):
        assert sending_token(as_it_is) == as_it_is


def test_a_token_that_is_made_is_for_its_user_alone(tmp_path: Path):
    file, home = tmp_path / ".ray" / "auth_token", {"HOME": str(tmp_path)}
    for others in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "given"}):
        make_token(home | others, "made")
        assert not file.exists()
    make_token(home, "made")
    assert file.stat().st_mode & 0o777 == 0o600
    assert what_ray_finds(home) == "made"
    make_token(home, "another")
    assert what_ray_finds(home) == "made"


def test_where_a_token_is_from_and_that_it_is_not_shown(home: Path):
    found = cluster_token({"HOME": str(home)})
    assert found is not None
    assert found.source == str(home / ".ray" / "auth_token")
    assert "at-home" not in repr(found)
    assert found.fingerprint == ClusterToken(value="at-home", source="elsewhere").fingerprint
    assert found.fingerprint != ClusterToken(value="another", source=found.source).fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RAY_AUTH_TOKEN": " "}, "RAY_AUTH_TOKEN must hold a token or be unset, got only blanks"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "RAY_AUTH_TOKEN_PATH must name a file with a token .* got '/nowhere'"),
        ({"RAY_AUTH_TOKEN_PATH": "empty"}, "RAY_AUTH_TOKEN_PATH must name a file with a token .* got 'empty'"),
    ],
)
def test_a_token_that_cannot_be_is_refused(
    home: Path, changes: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(home)
    for ask in (cluster_token, check_credentials, lambda environment: RunToken.new(environment, NONCE)):
        with pytest.raises(CredentialsError, match=message):
            ask({"HOME": str(home)} | changes)


def test_all_with_the_clusters_token_come_to_one_secret(home: Path):
    token = RunToken.new({"RAY_AUTH_TOKEN": "at-home"}, NONCE)
    secret = token.secret({"HOME": str(home)}, "10.0.0.2")
    assert secret == token.secret({"RAY_AUTH_TOKEN": "at-home", "RAY_AUTH_MODE": "disabled"}, "10.0.0.3")
    travels = f"{token} {token.nonce} {token.check}"
    assert secret not in travels
    assert "at-home" not in travels
    assert NONCE not in str(token)
    again = RunToken.new({"RAY_AUTH_TOKEN": "at-home"}, "m" * 43)
    assert again.secret({"HOME": str(home)}, "10.0.0.2") != secret


def test_without_a_clusters_token_the_nonce_is_the_secret(home: Path):
    for environment in {"HOME": "/nowhere"}, {"HOME": str(home), "RAY_AUTH_MODE": "disabled"}:
        token = RunToken.new(environment, NONCE)
        assert token.secret({"RAY_AUTH_TOKEN": "whatever"}, "10.0.0.2") == NONCE


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"HOME": "/nowhere"},
            "node 10.0.0.2 must have the cluster's token .* got none; or set RAY_AUTH_MODE=disabled",
        ),
        (
            {"RAY_AUTH_TOKEN": "thein"},
            "node 10.0.0.2 must have the cluster's token .* got another one, from RAY_AUTH_T",
        ),
    ],
)
def test_a_process_without_the_clusters_token_comes_to_no_secret(environment: dict[str, str], message: str):
    token = RunToken.new({"RAY_AUTH_TOKEN": "ours"}, NONCE)
    with pytest.raises(CredentialsError, match=message) as caught:
        token.secret(environment, "10.0.0.2")
    assert "thein" not in str(caught.value)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue("node", "IP:10.0.0.1,DNS:localhost")


@pytest.mark.parametrize("use", ["1", "true", "True"])
def test_certificates_that_fit_are_taken(issued: Issued, use: str):
    environment = issued.environment | {"RAY_USE_TLS": use}
    assert shards_tls(environment) == shards_tls(environment, "10.0.0.1") == issued.tls
    assert issued.key.read_text() not in repr(issued.tls)


@pytest.mark.parametrize("use", [{}, {"RAY_USE_TLS": ""}, {"RAY_USE_TLS": "0"}, {"RAY_USE_TLS": "false"}])
def test_without_ray_use_tls_there_is_none(issued: Issued, use: dict[str, str]):
    assert (
        shards_tls({name: value for name, value in issued.environment.items() if name != "RAY_USE_TLS"} | use) is None
    )


@pytest.mark.parametrize("variable", ["RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"])
def test_a_variable_that_is_missing_or_names_nothing_is_named(issued: Issued, tmp_path: Path, variable: str):
    without = {name: value for name, value in issued.environment.items() if name != variable}
    (tmp_path / "noise").write_bytes(b"\xff\x00 no PEM")
    for changes, message in [
        ({}, "where RAY_USE_TLS is set, but it is not set"),
        ({variable: ""}, "where RAY_USE_TLS is set, but it is not set"),
        ({variable: "/nowhere/x.pem"}, r"got '/nowhere/x.pem' \(No such file or directory\)"),
        ({variable: str(tmp_path)}, r"got .* \(Is a directory\)"),
        ({variable: str(tmp_path / "noise")}, "got .*noise"),
    ]:
        with pytest.raises(CredentialsError, match=f"^{variable} must .*{message}"):
            check_credentials({"HOME": "/nowhere"} | without | changes)


def test_a_key_of_another_certificate_is_named(authority: Authority, issued: Issued):
    other = authority.issue("other")
    with pytest.raises(CredentialsError, match=r"RAY_TLS_SERVER_KEY must hold the private key of RAY_TLS_SERVER_CERT"):
        shards_tls(issued.environment | {"RAY_TLS_SERVER_KEY": str(other.key)})


def test_a_key_with_a_password_is_not_asked_for_it(issued: Issued, tmp_path: Path):
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", issued.key, "-out", locked, "-aes128", "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(CredentialsError, match=r"RAY_TLS_SERVER_KEY must hold .* without a password"):
        shards_tls(issued.environment | {"RAY_TLS_SERVER_KEY": str(locked)})


def test_a_certificate_must_fit_the_authority_the_time_the_use_and_the_host(
    authority: Authority, issued: Issued, tmp_path: Path
):
    stranger = Authority(tmp_path)
    cases = [
        (issued.environment | {"RAY_TLS_CA_CERT": str(stranger.certificate)}, None, "unable to get local issuer"),
        (authority.issue("old", "IP:10.0.0.1", days=-1).environment, None, "has expired"),
        (authority.issue("server", "IP:10.0.0.1", usage="serverAuth").environment, None, ""),
        (authority.issue("client", "IP:10.0.0.1", usage="clientAuth").environment, None, ""),
        (issued.environment, "10.0.0.9", "not valid for '10.0.0.9'"),
        (issued.environment, "127.0.0.1", "not valid for '127.0.0.1'"),
        (authority.issue("nameless").environment, "10.0.0.1", "10.0.0.1"),
    ]
    for environment, host, reason in cases:
        with pytest.raises(CredentialsError, match=f"RAY_TLS_SERVER_CERT must be valid now .*{reason}"):
            shards_tls(environment, host)


def test_the_commands_of_the_security_page_make_certificates_that_fit(tmp_path: Path):
    page = (Path(__file__).parents[4] / "docs" / "security.md").read_text()
    commands = page[page.index("    openssl req -x509") : page.index("A launch tries the three files out")]
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    environment = Issued(
        key=tmp_path / "node.key", certificate=tmp_path / "node.pem", authority=tmp_path / "ca.pem"
    ).environment
    for host in "10.0.0.7", "127.0.0.1", "localhost":
        assert shards_tls(environment, host) is not None
