"""The HTTP API: the one door to the server.

actors.py        who asked, and from which address
app.py           the application: token on every route, one shape of error
browsers/        the page's files, and a session in place of the token
checkpoints.py   which jobs' checkpoints may be removed, which still exist
context.py       what the routes share
openapi.py       the OpenAPI document
openapi_file.py  docs/openapi.json, `make openapi`
orders.py        what hosts must do now, read for all whose reports were stored together
readiness.py     whether jobs can be taken and started: database, loop, dispatcher
edge/            what stands in front of every route: the gate, what a query may have, and the shape of every
                 refusal
live/            the fleet as it is now, read once for all who watch, and sent to them as it changes
prometheus/      the fleet as Prometheus scrapes it
responses/       rows of the store -> the JSON of an answer, with what can be done about it
routes/          the routes, by subject
submission/      from a request to validated jobs, stored under one commit
"""
