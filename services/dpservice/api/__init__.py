"""The gRPC door: `decode.py` reads requests, `servicer.py` answers them, `health.py` and `server.py` do the rest."""
