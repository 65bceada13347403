"""The route reflector's process: everything that serves peers, nothing that is one.

Pure rooms, without sockets or clocks: `reflector` (who hears of which route; read it first), `changelog` (how many hear
of it for the price of one), `listing` (the table in order, page by page), `policy` (who may announce what). Around them
`hub` (what is connected), `tcp` and `stream` (its two doors), `door` (the gRPC service), `peering` (other reflectors)
and `metrics`.
"""
