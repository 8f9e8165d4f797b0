"""The Python and the shell commands of the pages, in the order in which a reader meets them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    # The reference is generated.
    if not {"reference", "site"} & set(path.parts)
}
_PROGRAMS = r"(?:srun )?(?:\.venv/bin/)?(?:python|tensorboard|make|ray|pip|minari)"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Piece(NamedTuple):
    """A block of Python, or one command for a shell, without its comment and line breaks."""

    python: bool
    text: str


def _commands(text: str, indent: str) -> list[Piece]:
    joined = re.sub(r" *\\\n *", " ", text)
    lines = re.findall(rf"^{indent}({_PROGRAMS} .*?)(?: +#.*)?$", joined, re.MULTILINE)
    return [Piece(False, line) for line in lines]


def pieces(page: str) -> list[Piece]:
    """Return what a page tells its reader to run: indented blocks hold commands only."""
    found, end = [], 0
    text = PAGES[page]
    for fence in _FENCE.finditer(text):
        found += _commands(text[end : fence.start()], " {4}")
        language, block = fence.groups()
        if language == "python":
            found.append(Piece(True, block))
        elif language in ("", "text"):
            found += _commands(block, "")
        end = fence.end()
    return found + _commands(text[end:], " {4}")


def with_sizes(command: str, sizes: str) -> str:
    """Return a command with other values of its flags; what it has not is added."""
    if not sizes.startswith("--"):
        return f"{command} {sizes}"
    for flag, values in re.findall(r"(--[\w-]+)((?: (?!--)\S+)*)", sizes):
        command, found = re.subn(rf"{flag}\b(?!-)(?: (?!--)\S+)*", flag + values, command)
        command += "" if found else f" {flag}{values}"
    return command
