"""Sections to HTML: what is on the page, and that nothing of a run can break it."""

import base64
import io

import PIL.Image
import pytest

from blocks.report.embedding import data_url, size
from blocks.report.page import page
from blocks.report.parts import Drawing, Image, Remark, Section, Table, named
from blocks.report.png import light_and_dark
from tests.report.reading import Reading, check

NASTY = "<script>alert(1)</script> & \"quoted\" 'single' $title ${style} </td> \N{SNOWMAN}"


def a_figure():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 2), layout="constrained")
    figure.subplots().plot([0, 1], [1, 0])
    return figure


@pytest.fixture(scope="module")
def pngs():
    return light_and_dark(a_figure)


def sections(pngs, text="plain"):
    image = Image("curve", text, text, *pngs)
    table = Table(text, [(text, text), ("number", 1.5)], (text, text))
    return [
        Section("Results & such", text, (image, table, Remark(text))),
        Section("Rest", text, (Table(text, [(text, text)], folded=True), Remark(text, warning=True))),
    ]


def test_a_page_is_well_formed_and_complete_in_itself(pngs):
    found = check(page("A run", "It went well.", sections(pngs), "The end."))
    assert found.headings == ["Results & such", "Rest"]


def test_what_comes_from_a_run_is_shown_as_text_and_never_run(pngs):
    found = check(page(NASTY, NASTY, sections(pngs, NASTY), NASTY))
    assert found.text.count(NASTY) == 18  # 4 around the sections, 9 and 5 in them
    assert len(found.tags) == len(Reading(page("a", "a", sections(pngs), "a")).tags)


def test_a_figure_is_drawn_in_ink_for_light_and_for_dark_pages(pngs):
    light, dark = (PIL.Image.open(io.BytesIO(png)).convert("L") for png in pngs)
    assert light.getpixel((0, 0)) == 255 > dark.getpixel((0, 0))
    assert light.getextrema()[0] < 128  # dark ink on white; how dark a thin line is differs between Matplotlibs
    assert dark.getextrema()[1] > 128 > dark.getpixel((0, 0))  # bright ink on dark
    assert size(pngs[0]) == light.size == dark.size


def test_a_picture_in_a_page_has_the_pngs_pixels_in_fewer_bytes(pngs):
    url = data_url(pngs[0])
    inside = base64.b64decode(url.partition(",")[2])
    assert len(inside) < len(pngs[0])
    first, second = (PIL.Image.open(io.BytesIO(file)).convert("RGB") for file in (inside, pngs[0]))
    assert first.tobytes() == second.tobytes()


def test_drawing_leaves_matplotlibs_settings_as_they_were(pngs):
    import matplotlib

    before = dict(matplotlib.rcParams)
    light_and_dark(a_figure)
    assert dict(matplotlib.rcParams) == before


def test_a_drawing_that_nobody_drew_is_a_mistake():
    with pytest.raises(TypeError, match="not drawn"):
        page("a", "a", [Section("S", "", (Drawing("n", "t", a_figure, "s"),))], "a")


def test_nested_settings_get_dotted_names():
    assert named({"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {}}) == [("a", 1), ("b.c", 2), ("b.d.e", 3), ("f", {})]
