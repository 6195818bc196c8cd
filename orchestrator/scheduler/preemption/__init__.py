"""Who is stopped for whom, and for whom the cleared cards are kept.

migration.py    running jobs that would end clearly sooner on other cards
min_runtime.py  when a job may stop others that have yet to run their minimum
nominations.py  cards that others were stopped for, kept for whom they were stopped
victims.py      who is stopped so that another can start
"""
