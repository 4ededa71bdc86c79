"""README and docs are executed: every block of code runs or is parsed, every name, file and link is there."""

import importlib
import re

import pytest

from tests import commands, pages
from tests.pages import PAGES, ROOT
from tests.test_house import BELOW, GROUND

NOT_RUN = 0  # blocks that are marked "not run": a new one is a decision, and changes this number
every_page = pytest.mark.parametrize("page", PAGES, ids=pages.name)
with_code = [page for page in PAGES if any(fence.language in ("python", "bash") for fence in pages.fences(page))]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache folder for all pages: the digits are written once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", with_code, ids=pages.name)
def test_its_code_runs_from_top_to_bottom(page, cache, tmp_path, monkeypatch):
    """Python in one namespace and in an empty folder, as a reader would paste it; commands as their marks say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    namespace = {"__name__": page.stem}
    for fence in pages.fences(page):
        if not fence.excuse:
            do(fence, namespace, tmp_path)


def do(fence, namespace, folder):
    """Execute a block, or check it, by its language and mark."""
    if fence.title:
        (folder / fence.title).write_text(fence.text)
    if fence.language == "python" and not fence.title:
        source = "\n" * (fence.line - 1) + fence.text  # a traceback names the page's own lines
        exec(compile(source, str(ROOT / fence.page), "exec"), namespace)
    elif fence.language == "bash":
        for words in commands.commands(fence.text):
            commands.check(words, folder)
            if fence.is_run:
                commands.run(words, folder, fence.extra)


def all_fences():
    return [fence for page in PAGES for fence in pages.fences(page)]


def test_no_block_is_left_out_in_silence():
    """Each has a language that the tests know; what is not run says why, and is counted."""
    unknown = [fence.place for fence in all_fences() if fence.language not in pages.LANGUAGES]
    odd = [fence.place for fence in all_fences() if fence.mark and not (fence.excuse or fence.is_run)]
    excused = {fence.place: fence.excuse for fence in all_fences() if fence.excuse}
    assert unknown == []
    assert odd == []
    assert len(excused) == NOT_RUN, excused


@every_page
def test_its_fences_are_all_found(page):
    """Two lines of ticks a block: a fence that the parser missed would never run."""
    assert len(re.findall(r"^\s*```", page.read_text(), re.M)) == 2 * len(pages.fences(page))


@every_page
def test_its_links_lead_somewhere(page):
    for target in pages.links(page):
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{pages.name(page)}: {target}"
        if page.is_relative_to(ROOT / "docs"):
            assert place.is_relative_to(ROOT / "docs"), f"{pages.name(page)}: {target} is no page of the site"
        if anchor and place.suffix == ".md":
            assert anchor in pages.anchors(place), f"{pages.name(page)}: {target}"


@every_page
def test_every_file_it_names_is_there(page):
    paths = [span for span in pages.spans(page) if re.fullmatch(r"(tests|blocks|recipes|bench|docs)/[\w./*-]+", span)]
    missing = [path for path in paths if not list(ROOT.glob(path))]
    assert missing == []


@every_page
def test_every_name_of_the_library_that_it_mentions_is_there(page):
    names = {name for span in pages.spans(page) for name in re.findall(r"^blocks(?:\.[A-Za-z_]\w*)+", span)}
    missing = [name for name in sorted(names) if not exists(name)]
    assert missing == []


def exists(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def test_the_reference_has_every_part_of_the_library():
    text = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    assert set(re.findall(r"^::: blocks\.(\w+)$", text, re.M)) == set(BELOW) | GROUND


def test_the_site_s_list_has_every_page():
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}


def test_the_tests_own_checks_can_fail(tmp_path):
    """A command with a wrong flag, a recipe that is not there, an unknown program, a name that is none."""
    for line in (
        "python recipes/convit_supervised.py --epoch 3",
        "torchrun --processes 8 recipes/knn.py",
        "python recipes/nothing.py",
        "python -m blocks.data.shards photos/ shards/ --nothing",
        "curl https://example.org",
        "pip install -e '.[nothing]'",
    ):
        with pytest.raises((AssertionError, SystemExit)):
            commands.check(*commands.commands(line), tmp_path)
    assert not exists("blocks.nothing")
    assert not exists("blocks.tree.nothing")
    assert exists("blocks.tree.flatten")
