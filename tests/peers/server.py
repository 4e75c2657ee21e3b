"""A peer of Python `websockets`. Prints `port N`, then serves until it is killed.

What a path does is the same as in server.js:

    /echo           sends back what it gets; prefers subprotocol `chat.v2`
    /count          takes what it gets and says nothing
    /frames         answers each message with the number of its frames and of its bytes (here only)
    /ping           pings at once, and tells how many milliseconds the pong took
    /large          answers a message with ?bytes in frames of ?frame bytes
    /close          closes at the first message, with ?code and ?reason
    /headers        sends the headers of the handshake
    /refuse/STATUS  refuses the handshake
    /seen           by plain GET: with which code and reason the WebSocket of the same ?id ended here, and
                    how many messages it had taken if it was at /count

Any other plain GET is answered with JSON.
"""

import asyncio
import json
import time
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

ends = {}


def end(id):
    return ends.setdefault(id, asyncio.get_running_loop().create_future())


def asked(path):
    url = urlsplit(path)
    return url.path, dict(parse_qsl(url.query, keep_blank_values=True))


async def before(connection, request):
    path, query = asked(request.path)
    if path.startswith("/refuse/"):
        response = connection.respond(int(path.removeprefix("/refuse/")), "not you\n")
        response.headers["WWW-Authenticate"] = 'Basic realm="peers"'
        return response
    if "Upgrade" in request.headers:
        return None
    answer = {"peer": "websockets", "path": path, "agent": request.headers.get("User-Agent")}
    if path == "/seen":
        answer = await asyncio.wait_for(end(query["id"]), 10)
    response = connection.respond(200, json.dumps(answer))
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response


def choose(connection, offered):
    # With a plain list of subprotocols, `websockets` refuses those who offer none of them.
    return next((name for name in ("superchat", "chat.v2") if name in offered), None)


async def echo(ws, query):
    async for message in ws:
        await ws.send(message)


async def count(ws, query):
    ws.messages = 0
    async for _ in ws:
        ws.messages += 1


async def frames(ws, query):
    while True:
        count = size = 0
        async for fragment in ws.recv_streaming(decode=False):
            count += 1
            size += len(fragment)
        await ws.send(f"{count} {size}")


async def ping(ws, query):
    before = time.monotonic()
    await (await ws.ping(b"are you there"))
    await ws.send(f"{(time.monotonic() - before) * 1000:.0f}")
    await ws.recv()


async def large(ws, query):
    await ws.recv()
    rest, frame = int(query["bytes"]), int(query["frame"])
    await ws.send(b"x" * min(frame, rest - at) for at in range(0, rest, frame))
    await ws.recv()


async def close(ws, query):
    await ws.recv()
    await ws.close(int(query["code"]), query["reason"])


async def headers(ws, query):
    await ws.send(json.dumps({name.lower(): value for name, value in ws.request.headers.raw_items()}))
    await ws.recv()


async def handle(ws):
    path, query = asked(ws.request.path)
    paths = {f.__name__: f for f in (echo, count, frames, ping, large, close, headers)}
    try:
        await paths[path.strip("/")](ws, query)
    except ConnectionClosed:
        pass
    await ws.close()
    if "id" in query:
        messages = getattr(ws, "messages", None)
        end(query["id"]).set_result({"code": ws.close_code, "reason": ws.close_reason, "messages": messages})


async def main():
    # Compression is on, as it is by default, for those who offer it; pings come from /ping only.
    options = {"process_request": before, "select_subprotocol": choose, "max_size": None, "ping_interval": None}
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
