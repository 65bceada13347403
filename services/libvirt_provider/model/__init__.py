"""Pure rules of the machine runtime: no I/O, no clock, no libvirt. Times are passed in."""
