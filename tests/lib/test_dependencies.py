"""Is all that the package and the app import declared?"""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"clickseg", "clickseg_app"}
SERVER = "monailabel"
"""Installed apart; the app runs within it alone."""


def names_of(requirements):
    return {normal(re.split(r"[^A-Za-z0-9._-]", one)[0]) for one in requirements}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder):
    """Return the packages that the modules of a folder import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    return found - OWN - sys.stdlib_module_names


@pytest.mark.parametrize("folder", ["lib/clickseg", "apps/vs_clickseg"])
def test_what_is_imported_is_declared(folder):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = names_of(project["dependencies"])
    if folder.startswith("apps"):
        # What the server asks for is there with it: psutil as an extra of MONAI.
        declared |= {SERVER, "psutil", "starlette"} | names_of(requires(SERVER))
    known = packages_distributions()
    lacking = {
        package
        for package in imported(ROOT / folder)
        if not declared & {normal(name) for name in known.get(package, [package])}
    }
    assert lacking == set()
