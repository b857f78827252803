"""Every error edge-oel raises on purpose.

OelError                 one clear line: what was seen, what was expected, what to do
+-- UsageError           the caller's input is wrong (exit code 2)
|   +-- ConfigError      a config file or key
|   +-- ModelFileError   a file that is not a GGUF model we can run
|   +-- NotInstalled     an extra is missing
+-- RefusedError         something from outside was refused; nothing changed
|   +-- ReportRefused    a report that breaks its schema or its size cap
|   +-- ReleaseRefused   a release whose bytes are not what its manifest says
+-- FederationError      Flower, a node or a deadline
+-- StateError           a folder or database is not in the state the command needs
"""

from __future__ import annotations


class OelError(Exception):
    """Base of all expected failures; its text is shown to the user as it is, without a traceback."""

    exit_code = 1


class UsageError(OelError):
    """The caller's input is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file cannot be read, or holds an unknown key or a wrong value."""


class ModelFileError(UsageError):
    """A model file is missing, is not GGUF, is cut short or has an architecture that cannot be run."""


class NotInstalled(UsageError):
    """A command needs an extra that is not installed."""


class RefusedError(OelError):
    """Something that came from outside was refused; nothing was changed."""


class ReportRefused(RefusedError):
    """A report breaks its schema or its size cap. The text names the field."""


class ReleaseRefused(RefusedError):
    """A release file is not what its manifest says. The device stays on the release it has."""


class FederationError(OelError):
    """Flower could not be started, no node answered in time, or a run failed."""


class StateError(OelError):
    """A folder or a database is not in the state that the command needs."""
