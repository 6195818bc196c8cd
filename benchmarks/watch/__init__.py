"""Benchmarks of watching, one module a subject. `make bench-watch` runs all, `python -m benchmarks.watch.NAME` one.

history.py  the telemetry of 500 hosts' last hour and of a card's week through the API, a month of it behind
page.py     the web page at 4,000 cards: drawn, updated, and what ten browsers take of the server
rollups.py  4,000 samples a second stored and rolled up, on both databases
scrape.py   /metrics at 4,000 cards
top.py      the terminal: `tuneyard top` at 4,000 cards, `top --once` beside `import click`
"""
