"""Learning from real talks: an endpoint for chat programs, what is kept of a talk, and the lessons in it."""
