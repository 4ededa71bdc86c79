"""The page in a real browser, opened from the disk."""

import pytest

from tests.report.browser import browser, find

WIDTHS = {"desk": 1280, "phone": 390}
IMAGES = """Promise.all(Array.from(document.images, async image => {
    await image.decode();
    return [image.currentSrc.slice(0, 22), image.naturalWidth, image.naturalHeight];
}))"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    if find() is None:
        pytest.skip("no Chromium or Chrome on PATH (apt-get install chromium)")
    with browser(find(), tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_report_opens_without_a_complaint_a_request_or_a_broken_picture(tab, supervised_page, width, dark):
    tab.open(supervised_page, width=width, dark=dark)
    images = tab.eval(IMAGES)
    assert len(images) > 10
    assert all(source == "data:image/png;base64," and width > 0 and height > 0 for source, width, height in images)
    assert tab.complaints() == []
    assert tab.requests() == [supervised_page.as_uri()]
    assert tab.eval("document.documentElement.scrollWidth") <= width  # the page itself never pans


def test_a_dark_page_shows_the_dark_pictures(tab, supervised_page):
    shown = []
    for dark in (False, True):
        tab.open(supervised_page, dark=dark)
        shown.append(tab.eval("Array.from(document.images, image => image.currentSrc)"))
    assert all(light != dark for light, dark in zip(*shown, strict=True))


def test_the_browser_tells_of_what_a_page_does_wrong(tab, tmp_path):
    page = tmp_path / "wrong.html"
    page.write_text('<img src="none.png"><script>console.warn("careful"); throw Error("no")</script>')
    tab.open(page)
    assert len(tab.complaints()) == 3  # the picture, the warning, the error
    assert tab.requests() == [page.as_uri(), (tmp_path / "none.png").as_uri()]
