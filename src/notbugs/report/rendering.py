"""What all pages share: templates, and pictures that lie inside the page."""

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

PAGE = "report.html"


def template(name: str) -> Template:
    """A template of ours; text is escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("notbugs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def embedded(content: bytes) -> str:
    """A PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
