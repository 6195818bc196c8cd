"""The load of a fleet: a server of its own, hosts that report once a second, and the command line meanwhile."""
