"""A job's result on its way from the GPU host through the server to a client.

receive.py  here: resumed, compared with its manifest, put in place whole
relay.py    on the server: pieces handed on, never more than a few held
"""
