"""Sphinx: Markdown pages, and the API reference from the docstrings."""

import re

from docutils import nodes

import remote_gym

project = "remote-gym"
author = "The remote-gym developers"
release = remote_gym.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"remote-gym {release}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
exclude_patterns = ["_build"]

default_role = "code"  # docstrings say `name`
autodoc_mock_imports = ["ray"]  # a large package, of which the signatures need nothing
autodoc_typehints = "none"  # the signatures would be longer than their explanation, which says units and shapes
autodoc_member_order = "bysource"
autoclass_content = "both"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
NAMED_RETURNS = "Returns a tuple"
napoleon_custom_sections = [("Keys", "params_style"), (NAMED_RETURNS, "params_style")]
myst_heading_anchors = 3


def _adapt(_app, what, _name, _object, _options, lines):
    """Rewrite what napoleon, or reST, would misread in our docstrings."""
    # `(num_envs, *obs_shape)` does not begin an emphasis.
    lines[:] = [re.sub(r"(?<=[ (])\*(?=\w)", r"\\*", line) for line in lines]
    if what in ("attribute", "property"):
        lines[:1] = [line.replace(": ", " – ") for line in lines[:1]]  # what comes before a colon is no type
    for index, line in enumerate(lines):
        if line == "Returns:" and re.match(r" +`?\w+`?: ", "".join(lines[index + 1 : index + 2])):
            lines[index] = f"{NAMED_RETURNS}:"
        elif line == "Returns:":
            lines[index + 1 : index + 2] = [text.replace(": ", " – ") for text in lines[index + 1 : index + 2]]


def _add_dark_pictures(_app, document):
    """Show `NAME-dark.svg` in place of `NAME-light.svg` in the dark theme; pages name the light one only."""
    for light in list(document.findall(nodes.image)):
        if light["uri"].endswith("-light.svg"):
            dark = light.deepcopy()
            dark["uri"] = light["uri"].replace("-light.svg", "-dark.svg")
            light["classes"].append("only-light")
            dark["classes"].append("only-dark")
            light.parent.insert(light.parent.index(light) + 1, dark)


def _mark_names(_app, document):
    """Let `site.css` keep a flag in one piece, and break what would make a table wider than a page: paths of tests."""
    for literal in document.findall(nodes.literal):
        if max(map(len, literal.astext().split()), default=0) <= 26:
            literal["classes"].append("short")
    for entry in document.findall(nodes.entry):
        for literal in entry.findall(nodes.literal):
            if len(literal.astext()) > 35:
                literal["classes"].append("long")


def setup(app):
    """Register the hooks: before napoleon, and before Sphinx collects pictures, which read what these leave."""
    app.connect("autodoc-process-docstring", _adapt, priority=1)
    app.connect("doctree-read", _add_dark_pictures, priority=1)
    app.connect("doctree-read", _mark_names)
