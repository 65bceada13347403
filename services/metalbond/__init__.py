"""The route reflector: who announces which overlay prefix behind which underlay address.

Pure rooms, without sockets or clocks: `wire` (frames; changing it breaks interoperation), `session` (handshake and
timers), `table` (routes and who supplies them), `pending` (what a receiver has yet to hear), `reflector` (the server's
rules), `learned` (the client's). Around them `connection` (a TCP socket), `server`, `door` (gRPC) and `client`, which
is what other services import. Read `reflector` first.
"""
