"""The web page: what browsers are sent, as it stands in `page/`, without a build.

site.py  the files of the page, read once, with what a browser may do with them

The folder page has index.html, style sheets and ES modules; page/vendor holds what others wrote, listed in vendor.json.
"""
