"""The processes of the control host: `tuneyard serve`, `up` and `down`.

http_server.py    the API on the open port, until SIGTERM
local_cluster.py  `up` and `down`
serve.py          `tuneyard serve`: API, controller, dispatcher
tokens.py         which tokens a server starts with: none that can be guessed
"""
