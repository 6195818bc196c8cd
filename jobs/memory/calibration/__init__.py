"""Measured against projected: what the next projection's interval and step time learn from attempts.

interval.py      the interval of the next projection, its pace
observations.py  what an attempt measured beside what was projected
residuals.py     residuals by group: one job one voice, outliers capped
"""
