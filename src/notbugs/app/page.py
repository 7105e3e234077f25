"""The explorer's page: its tabs, in the colours of the figures."""

from typing import Any

from notbugs.app import markup, tab_attack, tab_crossover, tab_inside, tab_usefulness
from notbugs.app.controls import Controls
from notbugs.app.explorer import Explorer
from notbugs.app.package import gradio
from notbugs.report.figures import DARK, LIGHT

TABS = {
    "Attack": tab_attack.build,
    "Crossover": tab_crossover.build,
    "Inside": tab_inside.build,
    "Usefulness": tab_usefulness.build,
}
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Liberation Mono", "monospace"]


def blocks(explorer: Explorer, copies: int) -> Any:
    """The page as gradio's blocks.

    **Raises** NotbugsError where gradio is missing.
    """
    gr = gradio()
    ui = Controls(gr, copies)
    name = explorer.subjects.test.name
    with gr.Blocks(title=f"notbugs: {name}", analytics_enabled=False) as page:
        ui.html(f"<h1>notbugs: {markup.text(name)}</h1>")
        for title, build in TABS.items():
            with gr.Tab(title):
                build(ui, explorer)
    return page


def styled(gr: Any) -> dict[str, Any]:
    """Theme and CSS, as `launch` takes them: no font or style from elsewhere."""
    theme = gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=MONO)
    for end, colours in (("", LIGHT), ("_dark", DARK)):
        theme.set(
            **{
                f"body_background_fill{end}": colours.paper,
                f"background_fill_primary{end}": colours.paper,
                f"block_background_fill{end}": colours.paper,
                f"body_text_color{end}": colours.ink,
                f"block_label_text_color{end}": colours.ink,
                f"block_title_text_color{end}": colours.ink,
                f"slider_color{end}": colours.blue,
                f"border_color_primary{end}": colours.grid,
            }
        )
    css = markup.variables(".dark {{ {} }}") + markup.static(markup.STYLE)
    css += " h1 { font-size: 1.5rem; color: var(--nb-ink); } h3 { color: var(--nb-ink); }"
    return {"theme": theme, "css": css}
