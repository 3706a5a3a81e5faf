"""Sphinx' configuration: MyST notebooks in the Furo theme. The source folder is written by docs/build.py."""

from configparser import ConfigParser
from pathlib import Path

_ini = ConfigParser(delimiters=["="])
_ini.read(Path(__file__).parent.parent / "settings.ini", encoding="utf-8")
_settings = _ini["DEFAULT"]

project = _settings["title"]
author = _settings["author"]
copyright = _settings["copyright"]  # noqa: A001
version = release = _settings["version"]

extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx_copybutton"]
exclude_patterns = ["_static"]

# Notebooks are stored with their outputs: building the site runs nothing.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_image_options = {"align": "center"}
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
numfig = True

html_theme = "furo"
html_title = _settings["title"]
html_static_path = []
html_css_files = ["site.css"]
html_favicon = str(Path(__file__).parent / "_static" / "favicon.svg")
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "footer_icons": [],
    "source_repository": "",
    "light_css_variables": {"color-brand-primary": "#0b5a8a", "color-brand-content": "#0b5a8a"},
    "dark_css_variables": {"color-brand-primary": "#6cb8e6", "color-brand-content": "#6cb8e6"},
}
pygments_style = "friendly"
pygments_dark_style = "native"
copybutton_exclude = ".linenos, .gp, .go"


def setup(app):
    # What build.py laid there from npm is used; else the extensions' own addresses on the network stay.
    static = Path(app.srcdir) / "_static"
    app.config.html_static_path = [str(static)]
    if (static / "mathjax").exists():
        app.config.mathjax_path = "mathjax/tex-mml-chtml.js"
    if (static / "embed.js").exists():
        app.config.nb_ipywidgets_js = {"embed.js": {}}
