"""What a question is about, by words that people use; a closed list, the first topic with a cue wins."""

from __future__ import annotations

import re

from oel_shared.wire import Topic

_CUES: dict[Topic, str] = {
    "translation": r"\btranslat\w*|\binto (?:english|german|french|spanish|italian|dutch|polish|russian)\b"
    r"|\bhow do (?:you|i) say\b|\bübersetz\w*",
    "code": r"```|\b(?:code|function|script|program|python|javascript|typescript|java|rust|sql|bash|regex|html|css"
    r"|api|bug|compile\w*|debug\w*|refactor\w*|class method|unit test\w*|loop|array|git|docker|stack trace"
    r"|exception|algorithm)\b|\bdef \w+\(",
    "maths": r"\d\s*[-+*/x×÷^]\s*\d|\b(?:calculate|compute|equation|solve|integral|derivative|percent\w*|sum of"
    r"|multipl\w+|divided? by|times \d+|square root|probability|fraction|algebra|geometry|average of"
    r"|how much is|area of|volume of|prime)\b|\d\s?%",
    "planning": r"\b(?:plan|schedule|itinerary|agenda|to-?do|organi[sz]e|roadmap|timetable|prepare for|week of"
    r"|trip to|checklist|meal plan|milestones?)\b",
    "writing": r"\btl;?dr\b|\b(?:summar\w*|key points|main points|in a nutshell|condense|write|rewrite"
    r"|rephrase|draft|essay|poem|story|letter|e-?mail|blog|speech|paragraph|proofread"
    r"|headline|slogan|cover letter|caption|haiku|invitation|toast|grammar)\b",
    "facts": r"^\W*(?:who|what|when|where|which|why|how (?:many|far|old|tall|big|long|high|deep|does|do|did|is"
    r"|hot|fast|heavy|much))\b|\bcapital of\b|\bexplain\b|\bdefin\w+|\btell me about\b|\bdifference between\b",
}
_COMPILED: dict[Topic, re.Pattern[str]] = {t: re.compile(cue, re.IGNORECASE) for t, cue in _CUES.items()}


def topic_of(question: str) -> Topic | None:
    """The topic whose cue the question holds; None if it holds none."""
    return next((topic for topic, cue in _COMPILED.items() if cue.search(question)), None)
