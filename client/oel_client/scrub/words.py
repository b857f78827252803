"""Names of people, and the English words that only look like names."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import NamedTuple

from oel_client.scrub.normalise import clean, folded

_ENGLISH = ("en_US", "en_GB", "en_IN")
_OTHERS = (
    "cs_CZ", "de_DE", "da_DK", "es_ES", "fi_FI", "fr_FR", "hu_HU", "it_IT",
    "nl_NL", "no_NO", "pl_PL", "pt_BR", "ro_RO", "sv_SE", "tr_TR",
)  # fmt: skip

_FUNCTION = """
a about above after again against ago all almost already also although always am among an and another any
anybody anyone anything are around as ask at away back be because been before behind being below beside between
beyond both but by can cannot could did do does doing done down during each either else enough even ever every
everybody everyone everything few first for from get give go goes going gone good got had has have having he her
here hers him his how however i if in inside instead into is it its itself just keep last later least left less
let like little look made make many me mine more most much must my myself near never new next no nobody none nor
not nothing now of off often ok okay on once one only onto open or other our ours out outside over own per
please put rather ready right same say see shall she should since so some somebody someone something sorry still
such sure take tell than thank thanks that the their theirs them then there these they thing this those though
through till to today together tomorrow too toward under until up upon us use used very was way we well went
were what when where whether which while who whom whose why will with within without would yes yet you your
yours yourself hidden written needed required wrong correct incorrect invalid valid empty missing unknown secret
protected reset forgotten expired stored kept locked closed known found set changed working broken long short
weak strong
"""
_ORDINARY = """
agate alba alma amber amen angel april arch aria art ash aspen aster august aurora autumn bailey baker bandit
banner barb baron barrel basil bay beam bear beau bell belle berry bill birch bishop bishopric blade blake blaze
bliss blossom blue bob bonnie book bowman bowl boy brandy brass bread brick bridge bright brook brooke brown
buck bud butcher butler button cabin cake calvin can candle candy captain card carol carpenter carter cash
castle cat cave cedar chance chandler chase cherry chest chief chip christian clay cliff cloud clover coal
cobalt coin cole colt cook cookie cooper copper coral cord crane crow crown crystal cup daisy dale dame dan dawn
day deacon dean dell deputy desk destiny diamond dick dimple dish dome don door dove drawer drew duke dusty
dwarf eagle earl earth east ebony echo edge edit ember emerald engine ernest ever fable fairy faith falcon
farmer fern field finch finn fire fish fisher fleur flint flor floor flora florence flower forest forum fountain
fox frank fridge frost gale garden garland garnet gate gavel gem gene ghost giant ginger glade glass glen goblin
gold golden goose grace grain grant gray green grove guard guest gun guy hagen hall ham hammer happy hardy harm
harmony harp harper haven hawk hazel heath heather heaven heir helm henna herb hermit hero hill holly honey
honor hood hope horn horse hunt hunter ice ink iris iron island ivory ivy jack jade jar jasmine jasper jay jean
jet jewel jill job joker jolly jordan josh joy juniper june junior justice kale ken kent key kick king kit
kitchen kitty knight lace ladder lady lake lamp lance lane lantern lark laurel lavender leaf lee legend leo leon
lever liberty light lily lime lin lion lock log lord lotus love lowe lucky luna lynx mace madonna maid major
maple marble march mare marigold marina mark marsh marshal mason master maximum max may mayor meadow melody
melon mercedes mercy merchant mercury merit merry mile miller minister mint miracle mirror misty monk moon
morning moss mouse myrtle nature needle nell night nova oak oasis ocean olive olivine opal orange orchid otter
owl page paige painter palace palm pansy paper paris park parker parsley patience paste path patty peace peach
pear pearl peer penny pepper perry petal peter petra phoenix pierce pike pilgrim pine piper pleasure plum poet
polo pope poppy porter potter precious prince princess puck queen quest rain rainbow ramp randy raven ray read
red reed reef remedy rich ridge ring river rob robin rock rocky rod roman rook room root rope rosa rose rosemary
rosette rosie rowan royal ruby rune rush russet rusty sable sage sailor saint sally salt sand sandy sapphire
saffron savannah scarlet scarlett scholar scout scroll sea season serene shadow shelby shell shepherd sheriff
sherry shield ship shrine silk silver sky slate smith snow sol sole solomon song sonny sorrel south sparrow
spear spencer spice spirit spring squire star stella stem sterling steward stig stone storm stove straw sugar
sue summer sun sunny sunset sword table tanner tansy taylor teal temple thorn thyme tiger till tim toad toby
token tom tony topaz torch tower town toy treasure tree trinity troll troy tulip turner tyler unity urban urn
vale valley valor van velvet venus vera verity victor victory vine viola violet virtue vivid wade walker wall
wally wand warden warren water weaver west wheat white wick widow wild will willow win winter wise wizard wolf
wood woods woody wren yellow york young zion angus bass bean bowie bruno brandi cabbage celery chad chelsea
chili crab curry dill duncan eddy fennel fry grill guido hector italian jerk lamb lemon lola mango marshall
mario marco mince nick nut olly paddy pan pat pea pip pita polly roast rocket roll romaine russell sam soup stew
stock tart thai tuna turkey turnip vanilla victoria virginia vince walnut waldorf yam monday tuesday wednesday
thursday friday saturday sunday january february july september october november december christmas easter
english german french spanish dutch british american european chinese indian berlin london madrid rome vienna
america europe africa asia india china georgia austin houston dallas sydney madison dakota carolina alexandria
lourdes israel kenya ireland holland britain customer friend colleague team everyone reader user assistant bot
sir doctor teacher boss guide welcome
"""
FUNCTION = frozenset(_FUNCTION.split())
"""Never a name, and never the password after "the password is"."""
ORDINARY = FUNCTION | frozenset(_ORDINARY.split())
"""Words of games, kitchens, calendars and maps that are somebody's name, too."""


class Names(NamedTuple):
    """Lower-case names, as plain ASCII where they look like it."""

    english: frozenset[str]
    """Given names common where English is spoken, ordinary words left out."""
    given: frozenset[str]
    """Given names of all locales, ordinary words left out."""
    anybody: frozenset[str]
    """Given names of all locales, with the ordinary words: Rose, Mark."""
    family: frozenset[str]
    """Family names of all locales, function words left out."""


@cache
def names() -> Names:
    """The lists that Faker keeps; read once, about 0.1 s."""
    english = frozenset().union(*(_listed(locale, "first_names") for locale in _ENGLISH))
    anybody = english.union(*(_listed(locale, "first_names") for locale in _OTHERS)) - FUNCTION
    family = frozenset().union(*(_listed(locale, "last_names") for locale in (*_ENGLISH, *_OTHERS)))
    return Names(english - ORDINARY, anybody - ORDINARY, anybody, family - FUNCTION)


def _listed(locale: str, attribute: str) -> frozenset[str]:
    provider = import_module(f"faker.providers.person.{locale}").Provider
    parts = (part for name in getattr(provider, attribute, ()) for part in str(name).split())
    return frozenset(plain for part in parts if len(plain := folded(clean(part)).lower()) > 2)
