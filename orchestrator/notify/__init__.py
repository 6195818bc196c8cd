"""Notifications on their way: from the outbox in the database to webhooks and mailboxes.

addresses.py  which addresses may be posted to
mail.py       one notice as an e-mail, through the relay that the operator names
post.py       one POST, to an address that was looked at
sender.py     the thread that empties the outbox while this server leads
"""
