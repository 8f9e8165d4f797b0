"""The description that a package index shows: its links work there, and its example runs."""

import configparser
import re

import pytest

from tests.page_commands import ROOT

LINK = re.compile(r"\]\(([^)]+)\)")


@pytest.fixture
def metadata():
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found["metadata"]


@pytest.fixture
def description(metadata):
    return (ROOT / metadata["long_description"].removeprefix("file: ")).read_text()


def test_links_and_pictures_do_not_need_the_repository(metadata, description):
    assert metadata["long_description_content_type"] == "text/markdown"
    links = LINK.findall(description)
    assert links
    assert all(link.startswith("https://") for link in links)
    urls = [line.partition(" = ")[2] for line in metadata["project_urls"].strip().splitlines()]
    assert urls
    assert all(url.startswith("https://") for url in urls)


def test_the_example_finds_the_value_that_the_description_gives(description, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", description, re.DOTALL)
    exec(compile(block, "description", "exec"), {})
    values = [float(each) for each in re.findall(r"\d+\.\d+", capsys.readouterr().out)]
    assert values == pytest.approx([10] * 5, rel=0.01)
