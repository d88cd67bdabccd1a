"""uvicorn's HTTP protocol with limits on all that the application never sees: heads, trailers, waiting requests, idle
and unread time.

httptools reads a header of any size, uvicorn waits for its end for ever and takes any number of requests at once, and
neither ends a connection on which nothing is read: each way a client holds memory and a connection for nothing.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
UNREAD_SECONDS = 30.0
PIPELINED = 16  # requests that may wait behind the one being answered

# Stands for a request that cannot be read. Its method is in no metric; its body never comes, so that behind the answer
# is thrown away what the client still sends, see service.http.exchange.
_NO_REQUEST = b"TRACE / HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """Ends requests whose heads or trailers are too large, and connections that take too long outside the application.

    What it refuses, the application answers: ``scope["state"]["malformed"]`` says what is wrong.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._running: RequestResponseCycle | None = None  # the request that is being answered, or was last
        self._refused = False
        self._overhead = 0  # bytes since the last one of a body and the last end of a request
        self._head_timer: asyncio.TimerHandle | None = None  # runs while a head is being received
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._stop_unread_timer()
        self._unset_keepalive_if_required()  # uvicorn leaves it running when the client has reset the connection
        if self._running is not None:  # uvicorn tells only the last of pipelined requests
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Instead of uvicorn's, which stops the keep-alive timer for bytes that begin no request."""
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
            else:
                self.cycle.keep_alive = False
        except httptools.HttpParserCallbackError:  # on_headers_complete, ours or uvicorn's
            if self._pipeline_full:
                self._refuse(f"more than {PIPELINED} requests wait behind one that is being answered")
            else:
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
    def _pipeline_full(self) -> bool:
        return len(self.pipeline) >= PIPELINED

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._unset_keepalive_if_required()
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self.scope["state"]["is_closing"] = self.transport.is_closing
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_timer is not None:  # not a trailer, for which nobody asks
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._end_head()
        if self._pipeline_full and not self._refused:
            # uvicorn stops reading, but one read has thousands of requests, and each answer would bring the next one
            raise ValueError
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._start_unread_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._start_unread_timer()

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

    def _start_unread_timer(self) -> None:
        """Give the client time to read what it was sent; a transport that is closed waits for that without end."""
        self._stop_unread_timer()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self._give_up_unread)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _give_up_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
