"""Numbers that point at somebody: phones, cards, accounts, identity numbers, dates, places, wallets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module

from oel_client.scrub.spans import Span, spans_of

_DIGITS = re.compile(r"(?:\+ ?|\( ?)?(?<!\d)\d(?:[ ().\-_/*,:;|]{0,3}\d)*+")
_SPELT_DIGITS = re.compile(
    r"\b(?:(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple)[ ,.-]{1,2}){5,}+(?:\w{2,6}\b)?",
    re.IGNORECASE,
)
_SPELT_OUT = re.compile(r"(?<![^\W_])[^\W_](?:[ .\-_*@]{1,3}[^\W_](?![^\W_])){5,}+")
_ENOUGH, _ENOUGH_IN_A_ROW = 7, 5
_CHECKS = 64
"""Numbers of one text whose kind is looked up; the others are plain `number`."""

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?"
    r"|dec(?:ember)?|januar|februar|märz|marz|mai|juni|juli|oktober|dezember)\.?"
)
_DATES = (
    re.compile(
        r"(?<!\d)(?:\d{1,2} ?([./-]) ?\d{1,2} ?\1 ?(?:19|20)?\d\d"
        r"|(?:19|20)\d\d ?([./-]) ?\d{1,2} ?\2 ?\d{1,2})(?!\d)"
    ),
    re.compile(
        rf"(?<!\d)\d{{1,2}}(?:st|nd|rd|th|\.)? (?:of )?{_MONTH},? ?(?:19|20)\d\d(?!\d)", re.IGNORECASE
    ),
    re.compile(rf"\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d\d(?!\d)", re.IGNORECASE),
    re.compile(r"(?<!\d)(?:19|20)\d\d \d\d \d\d(?!\d)|(?<!\d)\d\d \d\d (?:19|20)\d\d(?!\d)"),
)
_BORN = re.compile(
    rf"\b(?:born|birth ?day|date of birth|dob|birth ?date|geboren|né|née)(?: is| was|:)?(?: on| in| the| am| le)? ?"
    rf"((?:{_MONTH} ?)?\d[\w ./-]{{0,12}}+(?:{_MONTH})?(?: \d{{2,4}})?)",
    re.IGNORECASE,
)
_PLACES = (
    re.compile(
        r"(?<![\d.])[+-]?\d{1,3}\.\d{3,12}°? ?[NS]?(?: ?[,;/] ?| (?:lon(?:gitude)? ?)?)"
        r"[+-]?\d{1,3}\.\d{3,12}°? ?[EWO]?",
        re.IGNORECASE,
    ),
    re.compile(
        r"\d{1,3} ?° ?\d{1,2}(?:\.\d+)? ?['′](?: ?\d{1,2}(?:\.\d{1,8})? ?(?:[\"″]|['′]{2}))? ?[NSEWO]?",
        re.IGNORECASE,
    ),
    re.compile(r"\b(?:lat|lon|lng|long|latitude|longitude) ?[:=]? ?([+-]?\d{1,3}\.\d{2,12})", re.IGNORECASE),
)
_UUID = re.compile(r"(?<![\da-f])[\da-f]{8}(?:[- ][\da-f]{4}){3}[- ][\da-f]{12}(?![\da-f])", re.IGNORECASE)
_WALLETS = re.compile(
    r"(?<!\w)(?:0x[\da-f]{40}|(?:bc1|tb1|ltc1|addr1)[\da-z]{20,90}"
    r"|[13][1-9A-HJ-NP-Za-km-z]{25,34}|r[1-9A-HJ-NP-Za-km-z]{27,34})(?!\w)",
    re.IGNORECASE,
)
_IBAN = re.compile(r"(?<![A-Z0-9])[A-Z]{2} ?\d ?\d(?:[ -]?[A-Z0-9]){11,30}", re.IGNORECASE)
_SSN = re.compile(r"(?<!\d)\d{3}([ -])\d{2}\1\d{4}(?!\d)")
_ID_FORMS = re.compile(
    r"(?<!\w)(?:[A-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-Z]"  # United Kingdom
    r"|[A-Z]{6} ?\d\d[A-Z]\d\d ?[A-Z]\d{3}[A-Z]"  # Italy
    r"|[XYZ]?\d{7,8}-?[A-Z]"  # Spain
    r"|\d{6}[-+A]\d{3}[\dA-Z]"  # Finland
    r"|\d{2} ?\d{6} ?[A-Z] ?\d{3})(?!\w)",  # Germany, pension
    re.IGNORECASE,
)
_ID_TOLD = re.compile(
    r"\b(?:ssn|social security(?: number| no\.?)?|national insurance(?: number)?|nino|passport(?: number| no\.?)?"
    r"|tax[ -]?id"
    r"|steuer-?id(?:nr)?|(?:national |personal )?id(?:entity)?(?: card)?(?: number| no\.?)|nhs(?: number)?"
    r"|driver'?s? licen[cs]e"
    r"(?: number)?|licen[cs]e plate|number plate|aadhaar|pesel|bsn|cpf|dni|nie|insurance number"
    r"|patient(?: id| number)?"
    r"|customer(?: id| number)|member(?:ship)?(?: id| number)|account(?: number| no\.?))(?: is|:|=)? ?"
    r"#?((?=[^\s\0]{0,14}\d)[A-Z0-9][A-Z0-9-]{3,29}(?: \d[\dA-Z]{1,8}){0,5})",
    re.IGNORECASE,
)
_NATIONAL = (
    "us.ssn", "de.idnr", "fr.nir", "nl.bsn", "pl.pesel", "se.personnummer", "br.cpf", "in_.aadhaar", "ca.sin", 
    "be.nn",
    "dk.cpr", "ch.ssn", "gb.nhs", "no.fodselsnummer", "ro.cnp", "cz.rc",
)  # fmt: skip
_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "BR", "AU")


def dates(text: str) -> Iterator[Span]:
    """Whole dates, of birth or not, and a year of birth."""
    for pattern in _DATES:
        yield from spans_of("date", pattern, text)
    yield from spans_of("date", _BORN, text, group=1)


def places(text: str) -> Iterator[Span]:
    """Geographic coordinates."""
    for pattern in _PLACES:
        yield from spans_of("coordinates", pattern, text)


def identifiers(text: str) -> Iterator[Span]:
    """UUIDs, wallets, IBANs, identity numbers with letters or told to be ones."""
    yield from spans_of("uuid", _UUID, text)
    yield from spans_of("wallet", _WALLETS, text)
    yield from spans_of("id", _SSN, text)
    yield from spans_of("id", _ID_FORMS, text)
    yield from spans_of("id", _ID_TOLD, text, group=1)
    for match in _IBAN.finditer(text):
        if stop := _end_of_iban(match.group()):
            yield Span(match.start(), match.start() + stop, "iban")


def digit_runs(text: str) -> Iterator[Span]:
    """Long numbers, however they are spaced: cards, phones, identity numbers, or just `number`."""
    checks = 0
    for match in _DIGITS.finditer(text):
        digits = "".join(filter(str.isdigit, match.group()))
        if len(digits) < _ENOUGH and not re.search(rf"\d{{{_ENOUGH_IN_A_ROW}}}", match.group()):
            continue
        checks += 1
        yield Span(*match.span(), _kind(match.group(), digits) if checks <= _CHECKS else "number")
    yield from spans_of("number", _SPELT_DIGITS, text)
    yield from spans_of("spelled", _SPELT_OUT, text)


def _kind(written: str, digits: str) -> str:
    from stdnum import luhn

    if len(digits) > 19:
        return "number"
    if len(digits) >= 13 and digits[0] in "23456" and luhn.is_valid(digits):
        return "card"
    if _is_phone(written, digits):
        return "phone"
    return "id" if any(is_valid(digits) for is_valid in _national_ids()) else "number"


def _is_phone(written: str, digits: str) -> bool:
    import phonenumbers

    if written.startswith("+") or digits.startswith("00"):
        regions: tuple[str | None, ...] = (None,)
        number = "+" + digits.removeprefix("00")
    else:
        regions, number = _REGIONS, digits
    for region in regions:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(number, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False


@cache
def _national_ids() -> tuple[Callable[[str], bool], ...]:
    return tuple(import_module(f"stdnum.{name}").is_valid for name in _NATIONAL)


def _end_of_iban(written: str) -> int:
    """How many characters of a candidate are an IBAN with the right check digits; 0 if none."""
    from stdnum import iban

    ends = [match.end() for match in re.finditer(r"[A-Za-z0-9]", written)]
    valid = (end for count, end in enumerate(ends, 1) if count >= 15 and iban.is_valid(written[:end]))
    return next(valid, 0)
