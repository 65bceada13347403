"""The gRPC service MachineRuntime: decode, check, store, answer. One module per noun; nothing here touches libvirt."""
