"""Who asks, told to the host that was named and to no other."""

import base64
import urllib.parse
import urllib.request


def login(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its user and password, and the header that says them to its own host."""
    parts = urllib.parse.urlsplit(url)
    if "@" not in parts.netloc:
        return url, {}
    given, _, host = parts.netloc.rpartition("@")
    user, _, password = map(urllib.parse.unquote, given.partition(":"))
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {basic}"}


class Redirects(urllib.request.HTTPRedirectHandler):
    """Who asks is told to the host that was named, and to no other."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        given = req.unredirected_hdrs.get("Authorization")
        if new is not None and given and _host(newurl) == _host(req.full_url):
            new.add_unredirected_header("Authorization", given)
        return new


def _host(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc
