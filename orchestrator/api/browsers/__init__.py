"""Browsers: the page's files, and a session in place of the token.

origins.py   which names browsers know this server by, and which pages may ask it
requests.py  requests of browsers: the files of the page, which anybody may have, and cookies
sessions.py  who is signed in: cookies that the server's token signs, links that sign in once
"""
