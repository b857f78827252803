"""Sources of games: TextWorld families, a user's own TextWorld files or class, a scripted corridor."""

from oel_shared.environments.registry import open_environment

__all__ = ["open_environment"]
