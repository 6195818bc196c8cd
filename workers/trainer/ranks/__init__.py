"""The ranks of one attempt: they meet, watch each other and decide together.

decision.py    what the ranks do after a step, as one number
rank_watch.py  ranks of one attempt on one host watch each other
rendezvous.py  ranks on several hosts: meet, resume from one checkpoint, collect random states
"""
