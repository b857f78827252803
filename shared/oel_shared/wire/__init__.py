"""Everything that crosses between a device and the server, and nothing else.

Up: `Report` (counts behind lesson ids), and `Lesson` in full, but only one that enough devices hold; where a
user asked for it and said yes, `Situations`, redacted states that stand alone. Down: `Manifest` inside a
`ReleaseNotice`. A trajectory has no wire form. All are frozen and typed; reports, situations and manifests are
schema-versioned and travel as canonical JSON compressed with zstd.
"""

from oel_shared.wire._base import SCHEMA, Frozen, ShortName
from oel_shared.wire._codec import (
    MAX_PLAIN_BYTES,
    MAX_REPORT_BYTES,
    canonical_json,
    decode_notice,
    decode_report,
    decode_situations,
    digest,
    encode,
    read_lesson,
)
from oel_shared.wire._lessons import (
    MAX_TEMPLATE,
    TOPICS,
    Advice,
    Cue,
    Evidence,
    Lesson,
    LessonId,
    Topic,
    lesson_id,
)
from oel_shared.wire._releases import FileEntry, Manifest, ReleaseNotice
from oel_shared.wire._reports import MAX_EPSILON, MAX_LESSONS, MIN_EPSILON, Counted, Report
from oel_shared.wire._situations import (
    MAX_ACTION,
    MAX_ACTIONS,
    MAX_GOAL,
    MAX_OBSERVATION,
    MAX_STATES,
    RedactedState,
    Situations,
)

__all__ = [
    "MAX_ACTION",
    "MAX_ACTIONS",
    "MAX_EPSILON",
    "MAX_GOAL",
    "MAX_LESSONS",
    "MAX_OBSERVATION",
    "MAX_PLAIN_BYTES",
    "MAX_REPORT_BYTES",
    "MAX_STATES",
    "MAX_TEMPLATE",
    "MIN_EPSILON",
    "SCHEMA",
    "TOPICS",
    "Advice",
    "Counted",
    "Cue",
    "Evidence",
    "FileEntry",
    "Frozen",
    "Lesson",
    "LessonId",
    "Manifest",
    "RedactedState",
    "ReleaseNotice",
    "Report",
    "ShortName",
    "Situations",
    "Topic",
    "canonical_json",
    "decode_notice",
    "decode_report",
    "decode_situations",
    "digest",
    "encode",
    "lesson_id",
    "read_lesson",
]
