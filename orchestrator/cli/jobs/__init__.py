"""Verbs about jobs and what came of them: list, sweeps, metrics, pull."""
