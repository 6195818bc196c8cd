"""The OpenAPI document of the routes.

document.py  the OpenAPI document
file.py      docs/openapi.json, `make openapi`
"""
