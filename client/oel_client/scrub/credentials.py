"""Passwords, keys and tokens: what opens something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from oel_client.scrub.spans import Span, spans_of
from oel_client.scrub.words import FUNCTION

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

_BLOCK = re.compile(
    r"-{2,10} ?BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|KEY BLOCK|CERTIFICATE)"
    r".*?(?:-{2,10} ?END [A-Z0-9 ]{0,60}-{0,10}|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_TOLD = re.compile(
    r"\b(pass ?words?|pass ?phrase|passcode|pass ?wort|kennwort|contraseña|contrasena|mot de passe"
    r"|passwd|pwd|pass|pin(?: code)?|otp|tan|cvv2?|cvc"
    r"|(?:secret|access|api|auth|bearer|private|refresh|client|session|security"
    r"|verification|door|alarm|entry)"
    r"[ _-]?(?:key|token|code|secret|id)|bearer|token|secret|credentials?)"
    r"(\b ?[:=]{1,2}>? ?| (?:is|was|are|ist|es|est) (?:now |still )?|[ _-])"
    r"(?:\"([^\"\n\0]{1,80})\"|'([^'\n\0]{1,80})'|([^\s\0]{1,200}))",
    re.IGNORECASE,
)
_ALWAYS = re.compile(
    r"pass ?(?:word|wort|phrase|code)|kennwort|contrase|mot de|passwd|pwd|pin|cv[vc]|otp|tan", re.IGNORECASE
)
_OTHER_WORDS = FUNCTION | {
    "book", "books", "box", "prompt", "field", "screen", "manager", "protected", "hint", "door", "page", "note",
    "lock", "slip",
}  # fmt: skip
_TOKEN = re.compile(r"[!-~]{8,}")
_SYMBOL = re.compile(r"[^\w\s\0.,;:'-]")
_PARTS = re.compile(r"[A-Za-z0-9]+")
_SLUG_WORD, _SLUG_NUMBER = 12, 4
_TYPED_CHECKS = 64
"""Tokens of one text shown to the detectors of typed keys; the general rule reads all of them."""


def credentials(text: str) -> Iterator[Span]:
    """Passwords where they are told, keys and tokens wherever they stand."""
    yield from spans_of("key", _BLOCK, text)
    for match in _TOLD.finditer(text):
        yield from _password(match)
    checks = 0
    for match in _TOKEN.finditer(text):
        token = match.group().strip(".:?")
        if not token:
            continue
        if _is_random(token) or _is_strong_password(token):
            yield Span(*match.span(), "key")
        elif len(token) >= 16 and checks < _TYPED_CHECKS:
            checks += 1
            if any(next(iter(plugin.analyze_string(token[:512])), None) for plugin in _typed_keys()):
                yield Span(*match.span(), "key")


def _password(match: re.Match[str]) -> Iterator[Span]:
    word, how = match.group(1), match.group(2).strip().lower()
    group = next(number for number in (3, 4, 5) if match.group(number) is not None)
    value = match.group(group).strip(".,;!?")
    if not value or (value.lower() in _OTHER_WORDS and how not in (":", "=")):
        return
    # "The token is red" says no secret; "the token is 7fA" and "password swordfish" do.
    plain = value.isalpha() and not any(letter.isupper() for letter in value[1:])
    number_wanted = re.match(r"(?:pin|tan|otp|pass|cv[vc]2?)(?: code)?$", word, re.IGNORECASE) is not None
    told = how[:1] in (":", "=") or group != 5
    surely = told or (_ALWAYS.match(word) is not None and not number_wanted) or (number_wanted and how != "")
    if (surely and not (number_wanted and plain and not told)) or not plain:
        yield Span(*match.span(group), "password")


def _is_random(token: str) -> bool:
    """Whether a token looks generated: letters and digits mixed, or far too long for a word."""
    parts = _PARTS.findall(token)
    if any(map(_is_mixed, parts)) or (len(token) >= 20 and _switches(token) >= 4):
        return True
    letters, digits = sum(map(str.isalpha, token)), sum(map(str.isdigit, token))
    slug = all(
        (part.isalpha() and len(part) <= _SLUG_WORD) or (part.isdigit() and len(part) <= _SLUG_NUMBER)
        for part in parts
    )
    return letters + digits >= 20 and letters >= 3 and digits >= 3 and not slug


def _is_mixed(part: str) -> bool:
    if part.isalpha():
        return len(part) >= 25 or (len(part) >= 16 and _switches(part) >= 4)
    digits = sum(map(str.isdigit, part))
    letters = len(part) - digits
    if len(part) < 8 or not letters or digits < 2:
        return False
    both_cases = part.upper() != part != part.lower()
    return digits >= 4 or len(part) >= 12 or (both_cases and _switches(part) >= 3)


def _switches(token: str) -> int:
    """How often a capital follows a small letter, or a letter a digit, or a digit a letter."""
    return sum(
        (a.islower() and b.isupper()) or (a.isdigit() and b.isalpha()) or (a.isalpha() and b.isdigit())
        for a, b in pairwise(token)
    )


def _is_strong_password(token: str) -> bool:
    kinds = (str.islower, str.isupper, str.isdigit)
    return (
        _SYMBOL.search(token) is not None
        and len(token) <= 64
        and all(any(map(kind, token)) for kind in kinds)
    )


@cache
def _typed_keys() -> tuple[RegexBasedDetector, ...]:
    """Detectors of keys with a known form. Only their patterns are used; none calls home that way."""
    from detect_secrets.plugins import (
        aws,
        azure_storage_key,
        cloudant,
        discord,
        github_token,
        gitlab_token,
        jwt,
        mailchimp,
        npm,
        openai,
        pypi_token,
        sendgrid,
        slack,
        square_oauth,
        stripe,
        telegram_token,
        twilio,
    )  # fmt: skip

    return (
        aws.AWSKeyDetector(), azure_storage_key.AzureStorageKeyDetector(), cloudant.CloudantDetector(),
        discord.DiscordBotTokenDetector(), github_token.GitHubTokenDetector(), gitlab_token.GitLabTokenDetector(),
        jwt.JwtTokenDetector(), mailchimp.MailchimpDetector(), npm.NpmDetector(), openai.OpenAIDetector(),
        pypi_token.PypiTokenDetector(), sendgrid.SendGridDetector(), slack.SlackDetector(),
        square_oauth.SquareOAuthDetector(), stripe.StripeDetector(), telegram_token.TelegramBotTokenDetector(),
        twilio.TwilioKeyDetector(),
    )  # fmt: skip
