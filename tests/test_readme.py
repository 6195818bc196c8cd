"""Packages list their files; README is short and true; links and paths in the documentation lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.spec import parse_spec

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(
    init.parent.relative_to(CHECKOUT).as_posix()
    for room in ("jobs", "workers", "orchestrator")
    for init in (CHECKOUT / room).rglob("__init__.py")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_docstring_of_a_package_lists_its_files(package: str):
    folder = CHECKOUT / package
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    listed = set(re.findall(r"^(\w+\.py|\w+/) {2,}\S", docstring, re.MULTILINE))
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert listed == modules | packages


def test_the_benchmarks_are_listed():
    folder = CHECKOUT / "benchmarks"
    listed = set(re.findall(r"^ {4,6}(\w+\.py) ", (folder / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.name for path in folder.rglob("*.py")} - {"__init__.py"}


PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "SECURITY.md",
    CHECKOUT / "CHANGELOG.md",
]
PAGES += sorted((CHECKOUT / "docs").rglob("*.md"))
_LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]*))?\)")
_PATH = re.compile(
    r"(?<![\w/])(?:jobs|workers|orchestrator|migrations|tests|benchmarks|deploy)/[\w/-]+\.(?:py|yaml|c)\b"
)


def test_the_readme_is_short():
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 140


def test_the_readme_names_packages_that_exist():
    text = (CHECKOUT / "README.md").read_text().partition("## The repository")[2]
    top, named = "", []
    for line in text.splitlines():
        if match := re.match(r"^ {4}( {2})?((?:\w+/ ?)+)", line):
            names = match[2].split()
            top = "" if match[1] is None else top
            named += [top + name for name in names]
            top = top or names[0]
    assert {"jobs/", "orchestrator/scheduler/", "workers/agent/"} <= set(named)
    assert [name for name in named if not (CHECKOUT / name).is_dir()] == []
    packages = {f"{package}/" for package in PACKAGES if package.count("/") <= 1}
    assert packages - set(named) == set(), "packages that README leaves out"


def test_the_job_file_of_the_readme_is_valid():
    (text,) = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    assert parse_spec(parse_yaml(text)).name == "my-first-adapter"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_links_and_paths_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    lost = []
    for target, anchor in _LINK.findall(text):
        to = (page.parent / target).resolve() if target else page
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in _anchors(to)):
            lost.append(f"{target}#{anchor}" if anchor else target)
    lost += [path for path in _PATH.findall(page.read_text()) if not (CHECKOUT / path).exists()]
    assert lost == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_glossary_has_each_term_once_in_order():
    terms = re.findall(r"^\| ([^|]+?) \|", (CHECKOUT / "docs" / "glossary.md").read_text(), re.MULTILINE)[1:]
    assert len(terms) > 50
    assert terms == sorted(set(terms), key=str.casefold)


def test_the_site_asks_no_other_origin(tmp_path: Path):
    config = load_config(str(CHECKOUT / "mkdocs.yml"), site_dir=str(tmp_path))
    build(config)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(list((CHECKOUT / "docs").rglob("*.md")))
    loaded = [
        re.findall(r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="([^"]+)', page.read_text())
        for page in pages
    ]
    assert any(loaded)
    assert [link for links in loaded for link in links if re.match(r"(?:\w+:)?//", link)] == []
