"""From the docstrings of this project to what Sphinx reads.

Here a docstring is plain text: a line that says what is returned, paragraphs, tables of
`name: meaning`, and examples that are indented by four spaces.
"""

import re

_ENTRY = re.compile(r"^(\w[\w, /.\[\]()*+∈]*?): +(\S.*)$")


def process(app, what, name, thing, options, lines):
    """Replace the lines of a docstring by reStructuredText, in place."""
    lines[:] = _converted(lines)


def skip(app, what, name, thing, skipped, options):
    """Leave out the fields of a named tuple, which the docstring of its class describes."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def without_links_outside(page: str, text: str) -> str:
    """Replace the links of a page that leave docs/ by the linked words.

    page: its name from docs/, such as "guide/runs"
    """
    up = page.count("/") + 1
    return re.sub(rf"\[([^\]]*)\]\((?:\.\./){{{up},}}[^)]*\)", r"\1", text)


def _converted(lines: list[str]) -> list[str]:
    result: list[str] = []
    paragraphs = _paragraphs(lines)
    for number, paragraph in enumerate(paragraphs):
        if all(line.startswith("    ") for line in paragraph):
            before = paragraphs[number - 1] if number else None
            follows = before is not None and all(line.startswith("    ") for line in before)
            result += ([] if follows else ["::", ""]) + paragraph
        elif number and _ENTRY.match(paragraph[0]):
            result += _definitions(paragraph)
        else:
            result += [_escaped(line.strip()) for line in paragraph]
        result.append("")
    return result


def _paragraphs(lines: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def _definitions(paragraph: list[str]) -> list[str]:
    """Return a table of names and meanings as a list of definitions."""
    found: list[str] = []
    for line in paragraph:
        entry = _ENTRY.match(line)
        if entry:
            found += [_escaped(entry[1]), f"    {_escaped(entry[2])}"]
        else:
            found.append(f"    {_escaped(line.strip())}")
    return found


def _escaped(line: str) -> str:
    """Return a line in which only `code` is special."""
    pieces = re.split(r"`([^`]+)`", line)
    plain = [re.sub(r"([*_|\\<>`])", r"\\\1", piece) for piece in pieces[::2]]
    code = [f"``{piece}``" for piece in pieces[1::2]]
    # Sphinx wants white space or punctuation after code; an escaped space adds nothing to the page.
    joined = plain[0]
    for each, following in zip(code, plain[1:]):
        joined += each + ("\\ " if following[:1].isalnum() else "") + following
    return joined
