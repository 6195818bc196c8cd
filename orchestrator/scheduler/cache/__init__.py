"""What the scheduler keeps between plans. Dropping it changes no plan.

pending_queue.py  the queue in its order, kept from plan to plan
running_index.py  the running jobs by shelf, and how far ahead a waiting one must be to stop some
"""
