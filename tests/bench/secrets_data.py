"""What the bar `leaks` plants and what it must leave alone. Everything is made here; nothing is anybody's.

Secrets come from a seed: random digits with the right check digits, names from hand-written lists (not the
lists that the scrubber reads), numbers of ranges set aside for fiction where there are such ranges.
"""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

PER_KIND = 16


@dataclass(frozen=True)
class Secret:
    """One planted secret: `value` must be gone from whatever becomes of `sentence`."""

    kind: str
    value: str
    sentence: str


def _words(text: str, between: str | None = None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(between))


GIVEN = _words(
    "Annika Bartholomew Cemile Dagmar Ekaterina Fergus Giuseppina Hendrik Ingeborg Jaroslav Katarzyna Leopold "
    "Margarethe Nikolaus Oluwaseun Priyanka Quentin Rosalind Siobhan Tadeusz Ulrike Vladimir Wilhelmina Yevgeny "
    "Zuzanna Adebayo Beatriz Constance Dimitrios Eleanor Frederick Gwendolyn Humphrey Isabella Jonathan"
)
FAMILY = _words(
    "Abernathy Brzezinski Castellanos Dombrowski Echeverria Featherstone Grabowski Haversham Ivanovich Jankowski "
    "Kowalczyk Lindqvist Montgomery Nakamura Oyelaran Papadopoulos Quigley Rasmussen Szymanski Thistlewood "
    "Uzunoglu Vandenberg Wojciechowski Xenakis Yamamoto Zimmermann"
)
HOSTS = ("example.com", "example.org", "mail.example.net", "post.example.co.uk", "firm.test")
STREETS = ("Larkspur Lane", "Winding Creek Road", "Old Mill Street", "Kestrel Avenue", "Harbour View Drive")
STRASSEN = ("Lindenstraße", "Kastanienallee", "Mühlenweg", "Brunnengasse", "Schillerplatz")
MONTHS = _words("January February March April May June July August September October November December")
FUNNY = ("quokka", "zephyr", "marmalade", "thunder", "pickle", "bramble", "cobweb", "dumpling")


def planted_secrets(seed: int) -> list[Secret]:
    """`PER_KIND` secrets of each kind, each in a sentence; the same seed gives the same ones."""
    rng = random.Random(seed)
    return [
        Secret(kind, value, sentence.replace("@@", value))
        for kind, make in MAKERS.items()
        for value, sentence in (make(rng) for _ in range(PER_KIND))
    ]


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.digits, k=count))


def _of(rng: random.Random, letters: str, count: int) -> str:
    return "".join(rng.choices(letters, k=count))


ALNUM = string.ascii_letters + string.digits


def _email(rng: random.Random) -> tuple[str, str]:
    person = f"{rng.choice(GIVEN)}{rng.choice('._-')}{rng.choice(FAMILY)}{rng.choice(['', '7', '+shop'])}"
    value = f"{rng.choice([person, person.lower()])}@{rng.choice(HOSTS)}"
    return value, rng.choice(
        ["send the recipe to @@ please", "my mail is @@", "@@ wants the key", "ask <@@>"]
    )


def _spoken_email(rng: random.Random) -> tuple[str, str]:
    value = f"{rng.choice(GIVEN)} at {rng.choice(FAMILY)} dot {rng.choice(['com', 'org', 'de'])}".lower()
    return value, rng.choice(["write to @@ about it", "take note @@"])


def _phone(rng: random.Random) -> tuple[str, str]:
    value = rng.choice(
        [
            f"+1 {rng.randint(201, 989)} 555 01{_digits(rng, 2)}",
            f"({rng.randint(201, 989)}) 555-01{_digits(rng, 2)}",
            f"+49 30 23125 {_digits(rng, 3)}",
            f"020 7946 0{_digits(rng, 3)}",
            f"01632 960{_digits(rng, 3)}",
            " ".join(f"555201{_digits(rng, 4)}"),
        ]
    )
    return value, rng.choice(["call me on @@ tonight", "phone @@", "the number is @@, ask for tea"])


def _name(rng: random.Random) -> tuple[str, str]:
    value = f"{rng.choice(GIVEN)} {rng.choice(FAMILY)}"
    cue = rng.choice(
        ["my name is @@", "I am @@ and I like soup", "Dear @@, the door is open", "Mr @@ has the key"]
    )
    return rng.choice([(value, cue), (value.lower(), "my name is @@")])


def _address(rng: random.Random) -> tuple[str, str]:
    value = rng.choice(
        [
            f"{rng.randint(1, 9999)} {rng.choice(STREETS)}",
            f"{rng.choice(STRASSEN)} {rng.randint(1, 199)}",
            f"{rng.randint(1, 99)} rue de la {rng.choice(FUNNY).title()}",
            f"{rng.randint(1, 999)} {rng.choice(STREETS)}".lower(),
        ]
    )
    return value, rng.choice(["i live at @@", "bring it to @@ today", "the parcel goes to @@"])


def _iban(rng: random.Random) -> tuple[str, str]:
    body = rng.choice(
        [("DE", _digits(rng, 18)), ("GB", "WEST" + _digits(rng, 14)), ("NL", "ABNA" + _digits(rng, 10))]
    )
    as_number = "".join(str(int(letter, 36)) for letter in f"{body[1]}{body[0]}00")
    plain = f"{body[0]}{98 - int(as_number) % 97:02d}{body[1]}"
    grouped = " ".join(plain[i : i + 4] for i in range(0, len(plain), 4))
    return rng.choice([plain, grouped, grouped.lower()]), rng.choice(["pay to @@ please", "iban: @@"])


def _card(rng: random.Random) -> tuple[str, str]:
    body = rng.choice(["4", "51", "34", "6011"])
    body += _digits(rng, (14 if body == "34" else 15) - len(body))
    total = sum(sum(divmod(int(d) * (2 if i % 2 == 0 else 1), 10)) for i, d in enumerate(reversed(body)))
    plain = body + str(-total % 10)
    between = rng.choice(["", " ", "-"])
    grouped = between.join(plain[i : i + 4] for i in range(0, len(plain), 4))
    return rng.choice([grouped, " ".join(plain)]), rng.choice(["my card is @@", "pay with @@ now"])


def _cloud_key(rng: random.Random) -> tuple[str, str]:
    upper = string.ascii_uppercase + string.digits
    value = rng.choice(
        [
            "AKIA" + _of(rng, upper, 16),
            "ghp_" + _of(rng, ALNUM, 36),
            f"xoxb-{_digits(rng, 11)}-{_digits(rng, 12)}-{_of(rng, ALNUM, 24)}",
            "sk_live_" + _of(rng, ALNUM, 24),
            "sk-proj-" + _of(rng, ALNUM, 48),
            "AIza" + _of(rng, ALNUM + "_-", 35),
            "glpat-" + _of(rng, ALNUM, 20),
        ]
    )
    return value, rng.choice(["use @@ for it", "export KEY=@@", "it says @@ when opened"])


def _jwt(rng: random.Random) -> tuple[str, str]:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    body = base64.urlsafe_b64encode(f'{{"sub":"{_digits(rng, 10)}"}}'.encode()).decode().rstrip("=")
    return f"{head}.{body}.{_of(rng, ALNUM + '_-', 43)}", "Authorization: Bearer @@"


def _private_key(rng: random.Random) -> tuple[str, str]:
    lines = "\n".join(_of(rng, ALNUM + "+/", 64) for _ in range(3))
    kind = rng.choice(["RSA ", "EC ", "OPENSSH ", ""])
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----", "here: @@ keep it"


def _hex_key(rng: random.Random) -> tuple[str, str]:
    return _of(rng, "0123456789abcdef", rng.choice([32, 40, 64])), rng.choice(
        ["the hash @@ opens it", "use @@"]
    )


def _password(rng: random.Random) -> tuple[str, str]:
    weak = f"{rng.choice(FUNNY)}{_digits(rng, rng.choice([0, 2, 4]))}"
    strong = _of(rng, ALNUM, 6) + rng.choice("!#$%") + "aB3"
    value = rng.choice([weak, strong])
    return value, rng.choice(
        ["my password is @@", "password: @@", "passwd=@@", "enter password @@", "pwd = '@@'"]
    )


def _pin(rng: random.Random) -> tuple[str, str]:
    return f"{rng.randint(1000, 9999)}", rng.choice(
        ["my pin is @@", "enter pin @@", "cvv: @@", "pin code @@"]
    )


def _ipv4(rng: random.Random) -> tuple[str, str]:
    value = ".".join(str(rng.randint(1, 254)) for _ in range(4))
    return value, rng.choice(["ping @@ first", "the server @@ is down", "open @@:8080"])


def _ipv6(rng: random.Random) -> tuple[str, str]:
    groups = [f"{rng.randrange(1, 65536):x}" for _ in range(6)]
    value = rng.choice([f"2001:db8:{':'.join(groups)}", f"2001:db8::{groups[0]}:{groups[1]}"])
    return value, rng.choice(["connect to @@ now", "route via @@"])


def _mac(rng: random.Random) -> tuple[str, str]:
    between = rng.choice(":-")
    value = between.join(f"{rng.randrange(256):02x}" for _ in range(6))
    return rng.choice([value, value.upper()]), rng.choice(["the printer is @@", "allow @@"])


def _url(rng: random.Random) -> tuple[str, str]:
    who = rng.choice(GIVEN).lower()
    value = rng.choice(
        [
            f"https://{who}:{rng.choice(FUNNY)}@{rng.choice(HOSTS)}/files",
            f"https://{rng.choice(HOSTS)}/users/{who}?token={_of(rng, ALNUM, 12)}",
            f"postgres://{who}:{rng.choice(FUNNY)}@db.{rng.choice(HOSTS)}:5432/home",
        ]
    )
    return value, rng.choice(["look at @@ for more", "see @@"])


def _path(rng: random.Random) -> tuple[str, str]:
    who = rng.choice(GIVEN)
    value = rng.choice(
        [
            f"/home/{who.lower()}/letters/{rng.choice(FUNNY)}.txt",
            f"/Users/{who}/Desktop/{rng.choice(FUNNY)}.pdf",
            f"C:\\Users\\{who} {rng.choice(FAMILY)}\\Documents\\{rng.choice(FUNNY)}.doc",
            f"~/{rng.choice(FUNNY)}/{who.lower()}.key",
        ]
    )
    return value, rng.choice(["open @@ now", "it is in @@"])


def _long_number(rng: random.Random) -> tuple[str, str]:
    value = rng.choice(
        [_digits(rng, rng.randint(7, 24)), " ".join(_digits(rng, 9)), "-".join(_digits(rng, 8))]
    )
    return value, rng.choice(["the customer number @@", "enter @@ at the gate", "type @@"])


def _birthday(rng: random.Random) -> tuple[str, str]:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1940, 2010)
    named = MONTHS[month - 1]
    value = rng.choice(
        [f"{year}-{month:02d}-{day:02d}", f"{day:02d}.{month:02d}.{year}", f"{month}/{day}/{year}",
         f"{day} {named} {year}", f"{named} {day}, {year}"]
    )  # fmt: skip
    return value, rng.choice(["born on @@", "my birthday is @@", "date of birth: @@", "she came on @@"])


def _national_id(rng: random.Random) -> tuple[str, str]:
    dni = rng.randrange(10**7, 10**8)
    value = rng.choice(
        [
            f"{rng.randint(900, 999)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}",
            f"QQ {rng.randint(10, 99)} {rng.randint(10, 99)} {rng.randint(10, 99)} {rng.choice('ABCD')}",
            f"{dni}{'TRWAGMYFPDXBNJZSQVHLCKE'[dni % 23]}",
            f"C{_of(rng, 'CFGHJK', 2)}{_digits(rng, 6)}",
        ]
    )
    return value, rng.choice(["my id number is @@", "passport @@", "national insurance number @@"])


def _uuid(rng: random.Random) -> tuple[str, str]:
    value = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return rng.choice([value, value.upper()]), rng.choice(["device @@ is mine", "id=@@"])


def _wallet(rng: random.Random) -> tuple[str, str]:
    base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    value = rng.choice(
        ["0x" + _of(rng, "0123456789abcdefABCDEF", 40), "1" + _of(rng, base58, 33),
         "bc1q" + _of(rng, "023456789acdefghjklmnpqrstuvwxyz", 38)]
    )  # fmt: skip
    return value, rng.choice(["send coins to @@", "wallet @@"])


def _coordinates(rng: random.Random) -> tuple[str, str]:
    value = f"{rng.uniform(-80, 80):.5f}, {rng.uniform(-179, 179):.5f}"
    return value, rng.choice(["the chest is at @@", "meet at @@"])


def _username(rng: random.Random) -> tuple[str, str]:
    word = f"{rng.choice(FUNNY)}_{rng.choice(FUNNY)}{_digits(rng, 2)}"
    return rng.choice(
        [(f"@{word}", "follow @@ for more"), (word, "my username is @@"), (word, "login: @@"),
         (f"{word}#{_digits(rng, 4)}", "add @@ there"), (word, "on discord i am discord @@")]
    )  # fmt: skip


def _disguised(rng: random.Random) -> tuple[str, str]:
    """An e-mail or a card number with look-alikes, full-width characters or invisible ones in it."""
    plain = rng.choice([_email(rng)[0], _card(rng)[0].replace(" ", "")])
    full_width = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in plain)
    invisible = rng.choice("\u200b\u200d\u2060\u00ad\ufeff").join(plain)
    look_alike = plain.translate(str.maketrans("aeopcxy0", "аеорсху٠"))
    return rng.choice([full_width, invisible, look_alike]), rng.choice(["take @@ there", "write to @@"])


MAKERS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "email": _email, "spoken email": _spoken_email, "phone": _phone, "name": _name, "address": _address,
    "iban": _iban, "card": _card, "cloud key": _cloud_key, "jwt": _jwt, "private key": _private_key,
    "hex key": _hex_key, "password": _password, "pin": _pin, "ipv4": _ipv4, "ipv6": _ipv6, "mac": _mac,
    "url": _url, "path": _path, "long number": _long_number, "birthday": _birthday, "national id": _national_id,
    "uuid": _uuid, "wallet": _wallet, "coordinates": _coordinates, "username": _username, "disguised": _disguised,
}  # fmt: skip

THINGS = _words(
    "apple, red apple, rose, pearl, ruby ring, golden key, old brass key, lantern, olive, ginger, basil, sage, "
    "bell pepper, red hot pepper, yellow potato, block of cheese, chicken leg, pork chop, iron sword, wooden "
    "shield, silver coin, coin, dusty book, letter, amber necklace, crystal, jade statue, ivory box, passkey, "
    "keycard, map, rope, torch, milk, white onion, purple carrot, water, flour, american limited edition keyboard",
    ", ",
)
HOLDERS = _words(
    "fridge, table, wooden door, chest, oven, stove, bbq, counter, drawer, shelf, toolbox, safe, trunk, desk, "
    "king-size bed, patio chair, rusty gate, front door, cabinet, slab",
    ", ",
)
PLAIN = _words(
    "go north; go south; go east; go west; go {onward}; go up; go down; look; look around; wait; "
    "inventory; eat meal; prepare meal; examine cookbook; read cookbook; read the note twice; take coin; "
    "close door 2; press button 3; wait 10 turns; bake for 20 minutes at 180; count to 100; turn dial to "
    "7; ask guard about king; talk to merchant; give rose to queen; bow before king; thank the baker; "
    "follow hunter; ride horse west; wake dragon; play song on harp; pray at shrine; light the candle "
    "with match; say the magic word; check for updates; save the file before closing; answer in one "
    "sentence; answer in metric units; use a bullet list; reply in english; show the python code first; "
    "explain each step; ask before deleting; round prices to two digits; name the source; be brief; keep "
    "the tone friendly; mark the answer; will it rain in may; summer starts in june; use dark mode; say "
    "the password at the gate; find the secret door; take the token; the key is on the table; pin the map "
    "to the wall; pass the salt; sign the letter; call the lift; I am hungry, so eat first; Hello there, "
    "take a seat; Dear friend, rest",
    ";",
)


def ordinary_game_lessons() -> list[str]:
    """More than 500 distinct lessons with nothing to hide, as games and simple assistants give them."""
    verbs = (
        "take {thing} from {holder}", "put {thing} on {holder}", "unlock {holder} with {thing}",
        "look for {thing} in {holder}",
    )  # fmt: skip
    alone = (
        "take {thing}",
        "drop {thing}",
        "examine {thing}",
        "buy {thing}",
        "cook {thing} with {any}",
        "slice {thing}",
    )
    holders = (
        "open {holder}",
        "close {holder}",
        "look in {holder}",
        "take {any} from {holder}",
        "insert {any} into {holder}",
    )
    made = [
        *PLAIN,
        *(verb.replace("{thing}", thing) for verb, thing in product(alone, THINGS)),
        *(verb.replace("{holder}", holder) for verb, holder in product(holders, HOLDERS)),
        *(
            verbs[number % len(verbs)].replace("{thing}", thing).replace("{holder}", holder)
            for number, (thing, holder) in enumerate(product(THINGS, HOLDERS))
            if number % 3 == 0
        ),
    ]
    return list(dict.fromkeys(made))
