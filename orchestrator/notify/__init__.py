"""Notifications on their way: from the outbox in the database to webhooks.

addresses.py  which addresses may be posted to
post.py       one POST, to an address that was looked at
sender.py     the thread that empties the outbox while this server leads
"""
