"""Benchmarks of watching: one module a subject, each run by itself.

top.py  the terminal: `tuneyard top` at 4,000 cards, `top --once` beside `import click`
"""
