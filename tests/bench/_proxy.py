"""A TCP proxy that keeps every byte of both directions, and takes the HTTP bodies out of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LOOPBACK = "127.0.0.1"
CHUNK = 65_536


@dataclass
class Recorded:
    """What went through the proxy, one stream a connection and direction."""

    port: int = 0
    up: list[bytearray] = field(default_factory=list)
    """From the devices to the server."""
    down: list[bytearray] = field(default_factory=list)


@contextmanager
def recording_proxy(target_port: int) -> Iterator[Recorded]:
    """Forward a free loopback port to `target_port` while the block runs; keeps all that passes."""
    recorded, started = Recorded(), threading.Event()
    loop = asyncio.new_event_loop()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = bytearray(), bytearray()
        recorded.up.append(up)
        recorded.down.append(down)
        try:
            there_reader, there_writer = await asyncio.open_connection(LOOPBACK, target_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, there_writer, up), _copy(there_reader, writer, down))

    async def serve() -> None:
        server = await asyncio.start_server(handle, LOOPBACK, 0)
        recorded.port = server.sockets[0].getsockname()[1]
        started.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(10)
    try:
        yield recorded
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    try:
        while data := await reader.read(CHUNK):
            kept += data
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


@dataclass(frozen=True)
class Body:
    """The body of one HTTP message, chunks joined."""

    encoding: str
    """Content-Encoding; empty if there is none."""
    data: bytes


def http_bodies(stream: bytes) -> Iterator[Body]:
    """The bodies of HTTP/1.1 messages that follow each other; a stream cut short ends them early."""
    at = 0
    while (end := stream.find(b"\r\n\r\n", at)) >= 0:
        first, *lines = stream[at:end].decode("latin-1").split("\r\n")
        if "HTTP/1." not in first:
            raise ValueError(f"this is not HTTP/1.1: {first[:80]!r}")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        at = end + 4
        if headers.get("transfer-encoding", "").lower() == "chunked":
            data, at = _chunked(stream, at)
        else:
            length = int(headers.get("content-length", 0))
            data, at = stream[at : at + length], at + length
        if data:
            yield Body(headers.get("content-encoding", ""), data)


def _chunked(stream: bytes, at: int) -> tuple[bytes, int]:
    data = bytearray()
    while (end := stream.find(b"\r\n", at)) >= 0:
        size = int(stream[at:end].split(b";")[0], 16)
        data += stream[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
        if size == 0:
            break
    return bytes(data), at
