"""The scheduler on a virtual clock: a trace and a fleet through the very same plan()."""
