"""The documentation's pages as what a machine can check: fenced blocks with their marks, links, names.

Marks are HTML comments on the line before a fence, which no reader sees:
    <!-- run -->                    commands are run, not only parsed; what they need is on the page above
    <!-- run with: --workers 0 -->  the same, with these flags behind every command, to make it small
    <!-- not run: REASON -->        code that a test cannot run
A block with title="file.py" is written into that file; other python runs in one namespace from top to bottom.
"""

import re
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "bash", "text", "yaml"}  # the last two are shown, never run

FENCE = re.compile(
    r"(?:^<!-- (?P<mark>.*?) -->\n)?^(?P<ticks>```+)(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=ticks)[ ]*$", re.M | re.S
)
TITLE = re.compile(r'title="([\w./-]+)"')


@attrs.frozen
class Fence:
    """A fenced block; `line` is the first of its text, `title` the file it stands for, "" for none."""

    page: str
    line: int
    language: str
    text: str
    mark: str
    title: str

    @property
    def place(self) -> str:
        """README.md:12"""
        return f"{self.page}:{self.line}"

    @property
    def excuse(self) -> str:
        """Why it is not run; "" if it is."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else ""

    @property
    def is_run(self) -> bool:
        """Whether its commands are run, not only parsed."""
        return self.mark == "run" or self.mark.startswith("run with: ")

    @property
    def extra(self) -> str:
        """The flags that make its commands small."""
        return self.mark.removeprefix("run with: ") if self.mark.startswith("run with: ") else ""


def name(page: Path) -> str:
    """docs/tutorial.md"""
    return page.relative_to(ROOT).as_posix()


def fences(page: Path) -> list[Fence]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    return [_fence(name(page), text[: found.start("text")].count("\n") + 1, found) for found in FENCE.finditer(text)]


def _fence(page: str, line: int, found: re.Match[str]) -> Fence:
    info, title = found["info"], TITLE.search(found["info"])
    language = info.split()[0] if info.split() else _unnamed(found["text"])
    return Fence(page, line, language, found["text"], found["mark"] or "", title[1] if title else "")


def _unnamed(text: str) -> str:
    """The results' commands, which no hand writes, are parsed too."""
    return "bash" if re.match(r"(torchrun|python|pip) ", text) else "text"


def prose(page: Path) -> str:
    """The page without its fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", FENCE.sub("", page.read_text()), flags=re.S)


def links(page: Path) -> list[str]:
    """Targets of its links and pictures that lie in the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not re.match(r"\w+:", target)]


def anchors(page: Path) -> set[str]:
    """What a link may have behind #: its headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def spans(page: Path) -> list[str]:
    """The `code` in its sentences."""
    return re.findall(r"`([^`\n]+)`", prose(page))
