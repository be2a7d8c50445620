"""Asking a server for a file: over HTTPS only, and with its refusals in words."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from cbirbench import __version__
from cbirbench.errors import CbirbenchError, MissingError, UsageError

TIMEOUT_S = 60.0
"""A server that is silent for so long is given up."""

_LOCAL = {"localhost", "127.0.0.1", "::1"}
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that may be others a moment later."""


class PassingError(Exception):
    """A request or an answer failed for a reason that may pass."""


class OutOfRangeError(Exception):
    """The file ends before the byte that was asked for."""


def answer(url: str, headers: dict[str, str], *, first: bool) -> http.client.HTTPResponse:
    """Ask for a file with GET; redirections are followed.

    Args:
        url: Its address.
        headers: What to send along.
        first: Whether nothing has come from there yet, so that there is no use in asking again.

    Raises:
        UsageError: The address is not https, nor http on this machine.
        PassingError: The server is not to be reached, or not ready, just now.
        OutOfRangeError: The server answered 416.
        MissingError: It cannot be reached, refuses, has a certificate that is not valid, or redirects away
            from https.
    """
    check_address(url)
    request = urllib.request.Request(url, headers={"User-Agent": f"cbirbench/{__version__}", **headers})  # noqa: S310 - checked
    try:
        response: http.client.HTTPResponse = _OPENER.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise OutOfRangeError from error
        if error.code in _PASSING:
            raise PassingError(f"the server answered {error.code} {error.reason}") from error
        raise MissingError(
            f"{shown(url)} cannot be had: the server answered {error.code} {error.reason}.",
            "Check the address, or give another mirror's with --url.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise MissingError(
                f"The certificate of {urlsplit(url).hostname} could not be verified: {cause.verify_message}.",
                "Check this computer's clock; where a proxy has certificates of its own, set SSL_CERT_FILE.",
            ) from error
        if first:
            raise MissingError(
                f"{shown(url)} cannot be reached: {in_words(cause)}.",
                "Check the network and, behind a proxy, the variable https_proxy; or give another mirror's "
                "address with --url.",
            ) from error
        raise PassingError(in_words(cause)) from error
    return response


def in_words(error: object) -> str:
    """Why a request failed."""
    if isinstance(error, TimeoutError):
        return f"no answer for {TIMEOUT_S:.0f} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def shown(url: str) -> str:
    """An address without its query, which may hold a signature that is nobody else's business."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def check_address(url: str, came_from: str = "") -> None:
    """Refuse an address that is not https, or http on this machine; or a redirection away from https."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    local = parts.scheme == "http" and host in _LOCAL and not came_from.startswith("https:")
    if (
        host
        and not parts.username
        and (parts.scheme == "https" or local)
        and url.isprintable()
        and " " not in url
    ):
        return
    refused: type[CbirbenchError] = MissingError if came_from else UsageError
    what = f"{shown(came_from)} redirects to an address" if came_from else "The address given is one"
    named = f"{parts.scheme or 'no scheme'}, {host or 'no host'}"
    raise refused(
        f"{what} that data are not fetched from ({named}): it must begin with https:// and hold no user "
        "name, password or spaces.",
        "Give another mirror's address with --url.",
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but never away from https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        check_address(newurl, came_from=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)
