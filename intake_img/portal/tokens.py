"""Authentication: tokens stored as digests, sessions in a signed cookie, and users named by a proxy.

The only state between requests is the file of tokens, which is read again when it changes: removing a token ends its
sessions on all servers.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from intake_img.portal.settings import Settings
from intake_img.storage.replacing import replace

__all__ = ["COOKIE", "Authenticator", "Visitor", "add_token", "digest"]

COOKIE = "intake_img_portal"
_SESSION_SECONDS = 7 * 24 * 3600
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


@dataclass(frozen=True)
class Visitor:
    """An authenticated visitor.

    Parameters
    ----------
    name : str
    catalogs : tuple of str
        Patterns of the visible ids of entries and folders.
    """

    name: str
    catalogs: tuple[str, ...] = ("*",)

    def sees(self, place: str) -> bool:
        """Whether an entry or folder is visible: it, or one of its parent folders, matches one of the patterns."""
        parts = place.split("/")
        above = ["/".join(parts[: k + 1]) for k in range(len(parts))]
        return any(fnmatch.fnmatchcase(one, pattern) for pattern in self.catalogs for one in above)


@dataclass(frozen=True)
class _Token:
    name: str
    sha256: str
    catalogs: tuple[str, ...] = ("*",)
    expires: float = float("inf")


def digest(token: str) -> str:
    """Return the digest of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def add_token(path: Path, name: str, catalogs: Sequence[str] = ("*",)) -> str:
    """Add a new token to a file, and return it; the file contains only its digest.

    Parameters
    ----------
    path : Path
        YAML; created if it does not exist, readable only by its owner.
    name : str
        Name of its owner.
    catalogs : sequence of str
        See `Visitor`.
    """
    token = secrets.token_urlsafe(32)
    listed = _read(path) if path.exists() else []
    entries = [{"name": t.name, "sha256": t.sha256, "catalogs": list(t.catalogs), **_until(t)} for t in listed]
    entries.append({"name": name, "sha256": digest(token), "catalogs": list(catalogs)})
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        yaml.safe_dump({"tokens": entries}, stream, sort_keys=False, allow_unicode=True)
    replace(str(temporary), str(path))
    return token


def _until(token: _Token) -> dict[str, Any]:
    return {} if token.expires == float("inf") else {"expires": datetime.fromtimestamp(token.expires, UTC).isoformat()}


class Authenticator:
    """Authenticates visitors.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stamp: Any = None
        self._tokens: list[_Token] = []
        if settings.tokens is not None:
            self._tokens = _read(settings.tokens)
            self._stamp = _stamp(settings.tokens)

    def visitor(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> Visitor | None:
        """Return the visitor named by a request's header, cookie or proxy; None if it is not authenticated."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._of(self.known(token.strip()))
        if self.settings.user_header and (user := headers.get(self.settings.user_header.lower())):
            given = headers.get("x-portal-secret", "")
            secret = self.settings.proxy_secret or ""
            if secret and hmac.compare_digest(given.encode(), secret.encode()):
                return Visitor(user[:100])
        return self._of(self._in_session(cookies.get(COOKIE, "")))

    def known(self, token: str) -> _Token | None:
        """Return the token entry for a text; all digests are compared, each in constant time."""
        given, found = digest(token), None
        hmac.compare_digest(given, _NOBODY)
        for one in self._current():
            if hmac.compare_digest(given, one.sha256) and time.time() < one.expires:
                found = one
        return found

    def session(self, token: _Token) -> str:
        """Return the value of a cookie: it contains the number of the token, and is signed with its digest."""
        until = int(min(time.time() + _SESSION_SECONDS, token.expires))
        text = f"{_short(token)}.{until}"
        return f"{text}.{_signed(token, text)}"

    def _in_session(self, cookie: str) -> _Token | None:
        text, _, signature = cookie.rpartition(".")
        short, _, until = text.partition(".")
        found = None
        for one in self._current():
            right = hmac.compare_digest(_signed(one, text).encode(), signature.encode("utf-8", "replace"))
            if right and _short(one) == short and until.isascii() and until.isdigit() and time.time() < int(until):
                found = one
        return found

    def _of(self, token: _Token | None) -> Visitor | None:
        return None if token is None or time.time() >= token.expires else Visitor(token.name, token.catalogs)

    def _current(self) -> list[_Token]:
        settings = self.settings
        single = [_Token("visitor", digest(settings.token))] if settings.token else []
        if settings.tokens is not None and (stamp := _stamp(settings.tokens)) != self._stamp:
            try:
                self._tokens = _read(settings.tokens)
            except (OSError, ValueError):
                self._tokens = []  # an unreadable file gives access to nobody
            self._stamp = stamp
        return [*self._tokens, *single]


def _read(path: Path) -> list[_Token]:
    try:
        listed = (yaml.safe_load(path.read_text(encoding="utf-8")) or {})["tokens"]
        return [
            _Token(
                str(t["name"]), _hex(t["sha256"]), tuple(map(str, t.get("catalogs") or ["*"])), _time(t.get("expires"))
            )
            for t in listed or []
        ]
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as exc:
        raise ValueError(
            f"{path.name}: expected 'tokens:', a list of 'name', 'sha256', and optionally 'catalogs' and 'expires'; "
            "'intake-img portal --new-token NAME --tokens FILE' adds one"
        ) from exc


def _hex(text: Any) -> str:
    if not isinstance(text, str) or len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"a token's sha256 is {str(text)[:8]!r}…: expected 64 hexadecimal digits in quotes")
    return text


def _time(value: Any) -> float:
    if value is None:
        return float("inf")
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def _stamp(path: Path) -> Any:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _short(token: _Token) -> str:
    return hashlib.sha256(b"id:" + token.sha256.encode()).hexdigest()[:16]


def _signed(token: _Token, text: str) -> str:
    return hmac.new(bytes.fromhex(token.sha256), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
