"""The fleet as Prometheus scrapes it.

columns.py   metrics of many cards as text, a column at a time
families.py  the state as metrics: base units, a card's uuid as its label, jobs joined by one _info series
scrape.py    what is scraped, made at most once in some seconds, and how making it went
"""
