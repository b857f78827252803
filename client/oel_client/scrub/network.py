"""Where somebody can be reached or is at home in a network: e-mail, links, hosts, handles, IP, MAC, paths."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from oel_client.scrub.spans import Span, spans_of
from oel_client.scrub.words import FUNCTION

_LOCAL = r"[\w.!#$%&'*+/=?^|~-]"
_AT = r"(?:@| {1,2}@ {1,2}| {0,2}[\[(<] ?(?:at|@) ?[\])>] {0,2})"
_DOT = r"(?:\.| \. | {0,2}[\[(<] ?(?:dot|\.) ?[\])>] {0,2})"
_EMAILS = (
    re.compile(rf"(?<!{_LOCAL}){_LOCAL}++{_AT}[\w-]++(?:{_DOT}[\w-]++)*+", re.IGNORECASE),
    re.compile(
        r"(?<![\w.-])[\w.-]++(?: (?:dot|underscore|dash|minus|plus) [\w-]++){0,4}+"
        r" at [\w-]++(?: dot [\w-]++){1,4}+",
        re.IGNORECASE,
    ),
)
_LINKS = re.compile(r"(?<![a-z\d+-])(?:[a-z][a-z\d+.-]{1,15}://|www\.|mailto:)[^\s\0]++", re.IGNORECASE)
_HOSTS = re.compile(
    r"(?<![\w.-])(?:[\w-]++\.)+(?:com|org|net|edu|gov|io|dev|app|info|biz|cloud|local|lan|internal|intranet|corp|home"
    r"|uk|de|fr|es|it|nl|pl|eu|ch|se|ru|cn|jp|br|ca|au)\b",
    re.IGNORECASE,
)
_HANDLES = (
    re.compile(r"(?<![\w.@/])@[a-z_][\w.-]{1,39}", re.IGNORECASE),
    re.compile(r"(?<![\w.])[\w.]{2,32}+#\d{4}\b"),
)
_ACCOUNT = re.compile(
    r"\b(user ?name|user ?id|login|log in as|nick ?name|handle|screen ?name|gamertag|account(?: name| id)?"
    r"|(?:discord|telegram|skype|instagram|twitter|snapchat|github|tiktok|steam|mastodon|signal|whatsapp)"
    r"(?: user| name| id| handle| account)?)( ?[:=] ?| is | )['\"@]?([\w.-]{2,40})",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?: ?\[?\.\]? ?\d{1,3}){3}(?![\d])")
_IPV6 = re.compile(r"(?<![\w:.])[\da-f:]{2,45}(?:\.\d{1,3}){0,3}(?![\w:])", re.IGNORECASE)
_MAC = re.compile(
    r"(?<!\w)[\da-f]{2}([:\-. ])(?:[\da-f]{2}\1){4}[\da-f]{2}(?!\w)"
    r"|(?<![\w.])(?:[\da-f]{4}\.){2}[\da-f]{4}(?![\w.])",
    re.IGNORECASE,
)
_PATHS = (
    re.compile(
        r"(?<![\w/.])(?:file:/{1,3}|~[\w-]{0,32}/|\.{0,2}/)[^\s\0/]++(?:/[^\s\0/]*+)++", re.IGNORECASE
    ),
    re.compile(
        r"(?<![\w/.])~[\w-]{0,32}/[^\s\0]*+|(?<![\w/.])/(?:home|users|root|mnt|media|var|etc|opt|tmp|srv)\b[^\s\0]*+",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?<!\w)(?:[a-z]:|%[a-z]{2,20}%|\\\\[\w.$-]{1,60})[\\/](?:[^\\/\n\0:*?\"<>|]{1,60}[\\/]){0,30}[^\s\\/\0]*+",
        re.IGNORECASE,
    ),
)


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses, also as `ann at example dot org`."""
    for pattern in _EMAILS:
        yield from spans_of("email", pattern, text)


def links(text: str) -> Iterator[Span]:
    """Every URL, whoever it leads to, and host names."""
    yield from spans_of("url", _LINKS, text)
    yield from spans_of("host", _HOSTS, text)


def handles(text: str) -> Iterator[Span]:
    """User names: `@so`, `so#1234`, or said to be one."""
    for pattern in _HANDLES:
        yield from spans_of("username", pattern, text)
    for match in _ACCOUNT.finditer(text):
        told, name = match.group(2).strip(), match.group(3)
        marked = any(not letter.isalpha() for letter in name.rstrip(".-"))
        certain = told in (":", "=") or match.group(1).lower().replace(" ", "") in (
            "username",
            "userid",
            "gamertag",
        )
        if name.lower() not in FUNCTION and (marked or (certain and told)):
            yield Span(*match.span(3), "username")


def machines(text: str) -> Iterator[Span]:
    """IPv4, IPv6 and MAC addresses."""
    yield from spans_of("mac", _MAC, text)
    yield from spans_of("ip", _IPV4, text)
    for match in _IPV6.finditer(text):
        if match.group().count(":") > 1 and _is_ip(match.group()):
            yield Span(*match.span(), "ip")


def paths(text: str) -> Iterator[Span]:
    """Paths of files, of Unix and Windows; they name the user and what they keep."""
    for pattern in _PATHS:
        yield from spans_of("path", pattern, text)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(letter.isalnum() for letter in text)
