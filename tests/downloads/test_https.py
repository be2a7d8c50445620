from __future__ import annotations

import socket
import ssl
import urllib.error
from typing import Any

import pytest

from cbirbench.downloads import https
from cbirbench.downloads.https import OutOfRangeError, PassingError, answer, check_address, shown
from cbirbench.errors import MissingError, UsageError


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.tar",
        "http://localhost:80/a.tar",
        "http://127.0.0.1/a.tar",
        "http://[::1]/a.tar",
    ],
)
def test_https_and_this_machine_are_fetched_from(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.tar",
        "http://localhost.example.org/a.tar",
        "ftp://example.org/a.tar",
        "file:///etc/passwd",
        "data:text/plain,x",
        "example.org/a.tar",
        "https:///a.tar",
        "https://name:secret@example.org/a.tar",
        "https://example.org:port/a.tar",
        "https://[example.org/a.tar",
        "https://example.org/a b.tar",
        "https://example.org/a\r\nHost: b",
        "",
    ],
)
def test_other_addresses_are_refused_and_no_password_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="https://") as caught:
        check_address(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("came_from", "to"),
    [
        ("https://example.org/a", "http://example.org/a"),
        ("https://example.org/a", "http://localhost/a"),
        ("http://localhost/a", "http://example.org/a"),
        ("https://example.org/a", "file:///etc/passwd"),
    ],
)
def test_a_redirection_away_from_https_is_refused(came_from: str, to: str) -> None:
    with pytest.raises(MissingError, match="redirects"):
        check_address(to, came_from=came_from)


def test_an_address_is_shown_without_its_signature() -> None:
    assert shown("https://example.org/a.tar?signature=secret#x") == "https://example.org/a.tar"


def test_a_redirection_is_followed_with_its_range(mirror: Any) -> None:
    mirror.content = b"0123456789"
    mirror.next = [mirror.url + "?again"]
    with answer(mirror.url, {"Range": "bytes=4-"}, first=True) as response:
        assert (response.status, response.read()) == (206, b"456789")
    assert len(mirror.asked) == 2
    assert all(headers["User-Agent"].startswith("cbirbench/") for headers in mirror.asked)


def test_a_servers_redirection_elsewhere_is_not_followed(mirror: Any) -> None:
    mirror.next = ["http://example.org/file.tar"]
    with pytest.raises(MissingError, match="redirects"):
        answer(mirror.url, {}, first=True)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_said_with_its_number(status: int, mirror: Any) -> None:
    mirror.next = [status]
    with pytest.raises(MissingError, match=f"answered {status}") as caught:
        answer(mirror.url, {}, first=False)
    assert "--url" in caught.value.remedy


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_may_be_asked_again(status: int, mirror: Any) -> None:
    mirror.next = [status]
    with pytest.raises(PassingError, match=str(status)):
        answer(mirror.url, {}, first=True)


def test_a_range_beyond_the_end_is_told_apart(mirror: Any) -> None:
    mirror.content = b"0123"
    with pytest.raises(OutOfRangeError):
        answer(mirror.url, {"Range": "bytes=9-"}, first=True)


def test_nobody_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # not listening: refused
        url = f"http://127.0.0.1:{held.getsockname()[1]}/a.tar"
        with pytest.raises(MissingError, match="cannot be reached") as caught:
            answer(url, {}, first=True)
        assert "network" in caught.value.remedy
        with pytest.raises(PassingError):
            answer(url, {}, first=False)


def test_a_silent_server_is_given_up(mirror: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "TIMEOUT_S", 0.1)
    mirror.next = ["silent"]
    with pytest.raises(MissingError, match="no answer for"):
        answer(mirror.url, {}, first=True)


@pytest.mark.parametrize("first", [True, False])
def test_a_certificate_that_is_not_valid_ends_it_at_once(
    first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        problem = ssl.SSLCertVerificationError(1, "certificate verify failed")
        problem.verify_message = "self-signed certificate"
        raise urllib.error.URLError(problem)

    monkeypatch.setattr(https._OPENER, "open", refused)
    with pytest.raises(MissingError, match=r"certificate of example\.org .*self-signed") as caught:
        answer("https://example.org/a.tar", {}, first=first)
    assert "SSL_CERT_FILE" in caught.value.remedy
