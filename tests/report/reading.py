"""A page read without a browser: is every tag closed, and what does it point to?"""

from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
POINTING = ("src", "srcset", "href", "action", "data", "poster", "background", "xlink:href")


class Reading(HTMLParser):
    """`headings`, `ids`, `links` (values of attributes that point somewhere), `tags`, `text` and `faults` of a page."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.faults, self.links, self.ids, self.tags = [], [], [], [], []
        self.headings, self.text = [], ""
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.links += [value for name, value in attributes if name in POINTING]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at line {self.getpos()[0]} closes what is not open")

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings[-1] += data


def check(html):
    """Raises AssertionError unless the page is well formed, and complete in itself."""
    page = Reading(html)
    assert html.startswith("<!doctype html>")
    assert not page.faults
    assert len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert link.startswith("data:") or (link.startswith("#") and link[1:] in page.ids), link[:80]
    assert not {"script", "iframe", "object", "embed", "form"} & {tag for tag, _ in page.tags}
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    return page
