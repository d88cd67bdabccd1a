"""uvicorn's HTTP protocol, with limits on what never reaches the application.

It overrides private parts of uvicorn, so pyproject.toml bounds uvicorn to the minor version that is tested. The reason
is that no option of uvicorn for httptools stops the following, each of which lets a client hold memory or a connection
as long as it likes: a head or trailers of any size, a head that trickles in, thousands of pipelined requests, stray
bytes that keep an idle connection open, answers that are never read. HAProxy does stop them, but it stands in front of
the service only in compose's profile ``scale``: not with ``make serve``, a single container, or on Kubernetes. Also,
uvicorn answers broken requests in plain text, outside the log and the metrics, and answers 400 to an offer of HTTP/2,
which Java's HttpClient sends with every request.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES = 64 * 1024  # of request line and headers, and of trailers
HEAD_SECONDS = 10.0  # for them to arrive
UNREAD_SECONDS = 30.0  # for the client to read an answer
PIPELINED = 16  # requests that may wait for the one being answered

# Stands in for a request that cannot be read. Metrics count its method as "other"; its body never arrives, so the
# middleware discards what the client still sends after the answer.
_NO_REQUEST = b"TRACE / HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """Refuses requests whose heads or trailers are too large, and closes connections that make no progress.

    The application answers what is refused: ``scope["state"]["malformed"]`` has the reason.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._running: RequestResponseCycle | None = None  # the request being answered, or the last one
        self._refused = False
        self._overhead = 0  # bytes received since the end of the last request, without those of bodies
        self._head_timer: asyncio.TimerHandle | None = None  # set while a head is being received
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_unread_timer()
        self._unset_keepalive_if_required()  # uvicorn leaves the timer running if the client reset the connection
        if self._running is not None:  # of pipelined requests, uvicorn tells only the last
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Replaces uvicorn's, which stops the keep-alive timer even for bytes that begin no request."""
        if self._refused:
            return
        self._overhead += len(data)
        self._feed(data)
        if self._overhead > HEAD_BYTES and not self._refused:
            self._refuse(f"headers or trailers have at least {self._overhead} bytes; the limit is {HEAD_BYTES}")

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
                self._refuse(f"more than {PIPELINED} requests are pipelined behind the one being answered")
            else:
                self._refuse("the request's target is not a path")
        except httptools.HttpParserError as error:
            self._refuse(f"the request is not HTTP/1.1: {error}")

    def _should_upgrade(self) -> bool:
        """Whether to read the head again, see :meth:`_head_without_upgrade`."""
        return self.scope["method"] != "CONNECT"  # an upgrade to httptools, whatever the headers

    def _head_without_upgrade(self) -> bytes:
        """The head without its offer of another protocol, which a server may ignore (RFC 9110, section 7.8).

        httptools would treat everything after the offer as that protocol.
        """
        line = f"{self.scope['method']} ".encode() + self.url + f" HTTP/{self.scope['http_version']}\r\n".encode()
        fields = [name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade"]
        return line + b"".join(fields) + b"\r\n"

    def _refuse(self, reason: str) -> None:
        """Stop reading, and close the connection after the answers to earlier requests and to this one."""
        self._refused = True
        if self.cycle is None or self.cycle.response_complete or not self.cycle.more_body:  # it failed in a head
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
        self._start_head_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_timer is not None:  # else it is a trailer, which the application does not need
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        if self._pipeline_full and not self._refused:
            # uvicorn pauses reading, but a single read can hold thousands of requests, and each answer resumes reading
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

    def _start_head_timer(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._on_head_timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        if self._answering:  # do not cut off an earlier request, whose answer may have paused reading
            self._start_head_timer()
        else:
            self.transport.close()

    def _start_unread_timer(self) -> None:
        """Limit the time for the client to read the answer; a closing transport would wait forever."""
        self._stop_unread_timer()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self._on_unread_timeout)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _on_unread_timeout(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
