"""The fleet as Prometheus scrapes it.

families.py  the state as metrics: base units, a card's uuid as its label, jobs joined by one _info series
scrape.py    what is scraped, made at most once in some seconds, and how making it went
"""
