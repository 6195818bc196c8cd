"""Verbs that show what was measured.

stats.py  lines over time, as sparklines
usage.py  where GPU-seconds and energy went
"""
