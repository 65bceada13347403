"""The gRPC calls: decode, apply a rule to the store, answer."""
