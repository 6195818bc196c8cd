"""Faults drawn from a seed: the real controller, handover, report queue's work and store, on a virtual clock."""
