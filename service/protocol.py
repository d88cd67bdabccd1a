"""uvicorn's HTTP protocol with limits on what the application never sees: heads and trailers.

httptools reads a header of any size, and uvicorn waits for its end for ever: either way a client holds memory and a
connection for nothing.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0

# Stands for a request that cannot be read. Its method is in no metric; its body never comes, so that behind the answer
# is thrown away what the client still sends, see service.exchange.
_NO_REQUEST = b"TRACE / HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """Ends requests whose heads or trailers are too large, and connections whose heads take too long.

    What it refuses, the application answers: ``scope["state"]["malformed"]`` says what is wrong.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._running: RequestResponseCycle | None = None  # the request that is being answered, or was last
        self._refused = False
        self._overhead = 0  # bytes since the last one of a body and the last end of a request
        self._head_timer: asyncio.TimerHandle | None = None  # runs while a head is being received

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._refused:
            return
        self._overhead += len(data)
        self._feed(data)
        if self._overhead > HEAD_BYTES and not self._refused:
            self._refuse(f"headers or trailers have at least {self._overhead} bytes, at most {HEAD_BYTES} are read")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._renew_parser()
                self._feed(self._head_without_upgrade() + data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:  # uvicorn's on_headers_complete
            self._refuse("the request's target is not a path")
        except httptools.HttpParserError as error:
            self._refuse(f"the request is not HTTP/1.1: {error}")

    def _should_upgrade(self) -> bool:
        """Whether the head is to be read once more, see :meth:`_head_without_upgrade`."""
        return self.scope["method"] != "CONNECT"  # which httptools calls an upgrade whatever its headers are

    def _head_without_upgrade(self) -> bytes:
        """The head without the offer of another protocol, which a server may ignore (RFC 9110, 7.8).

        httptools takes what follows such an offer for that protocol; Java's HttpClient sends one with every request.
        """
        line = f"{self.scope['method']} ".encode() + self.url + f" HTTP/{self.scope['http_version']}\r\n".encode()
        fields = [name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade"]
        return line + b"".join(fields) + b"\r\n"

    def _refuse(self, reason: str) -> None:
        """Read nothing more; the answer comes behind those to earlier requests, and closes the connection."""
        self._refused = True
        if self.cycle is None or self.cycle.response_complete or not self.cycle.more_body:  # a head is broken
            self._renew_parser()
            self.parser.feed_data(_NO_REQUEST)
        self.cycle.scope["state"]["malformed"] = reason
        self.cycle.keep_alive = False
        self.cycle.message_event.set()

    def _renew_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_timer is not None:  # not a trailer, for which nobody asks
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        super().on_message_complete()

    def _begin_head(self) -> None:
        self._end_head()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up_head)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_head(self) -> None:
        if self._answering:  # an earlier request, which must not suffer; perhaps reading is paused until it is done
            self._begin_head()
        else:
            self.transport.close()
