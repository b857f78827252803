"""Practice for lessons from talks: the server's own questions, answered by the current release. No user's text."""
