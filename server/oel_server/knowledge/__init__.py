"""Knowledge: what many devices' lessons come to.

`merge` makes one set of all reports: counts pooled so that few devices cannot bend them (`pooling`), one lesson for
the same rule in other words (`meaning`). `examine` asks the server's own games about each lesson, and `choose` says
which are taught. Nothing here opens a file or runs a model.
"""

from oel_server.knowledge.known import Examined, Knowledge, KnownLesson, Standing

__all__ = ["Examined", "Knowledge", "KnownLesson", "Standing"]
