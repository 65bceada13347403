"""The machinepoollet: Machines of one pool, run by a MachineRuntime."""
