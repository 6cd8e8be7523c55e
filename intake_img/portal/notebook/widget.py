"""The widget: the viewer's state as traits, pixels as messages. Powered by anywidget."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from intake_img.errors import MissingExtraError
from intake_img.model.packages import imported
from intake_img.portal.hierarchy import Hierarchy
from intake_img.portal.notebook.answers import Answers
from intake_img.portal.notebook.bundle import bundled

if TYPE_CHECKING:
    from intake_img.portal.notebook.view import ImageView

__all__ = ["lacking", "make_widget", "mimebundle"]

_LONGEST_LINK = 4000


def make_widget(images: Hierarchy, height: int) -> Any:
    """Return the widget of some images.

    Raises
    ------
    MissingExtraError
        If anywidget is not installed.
    """
    return _widget_class()(images, height)


def mimebundle(view: ImageView) -> dict[str, Any]:
    """Return the MIME bundle of a view as a widget; empty if anywidget is not installed."""
    if lacking():
        return {}
    found = view.widget._repr_mimebundle_()
    return dict(found[0] if isinstance(found, tuple) else found)


def lacking() -> str:
    """Return the install command if anywidget is not installed, else an empty text."""
    try:
        _widget_class()
    except MissingExtraError as exc:
        return str(exc)
    return ""


@cache
def _widget_class() -> type:
    imported("anywidget", "notebook", "the interactive view of an image")
    import anywidget
    import traitlets

    class ViewWidget(anywidget.AnyWidget):
        """The viewer in a notebook."""

        _esm = bundled()
        name = traitlets.Unicode().tag(sync=True)
        height = traitlets.Int().tag(sync=True)
        link = traitlets.Unicode().tag(sync=True)
        seen = traitlets.Dict().tag(sync=True)

        def __init__(self, images: Hierarchy, height: int) -> None:
            super().__init__(name=images.name, height=height)
            self._answers = Answers(images, self.send)
            self.on_msg(lambda _, content, buffers: self._answers.receive(content))

        @traitlets.validate("link")
        def _short(self, proposal: Any) -> str:
            if len(proposal["value"]) > _LONGEST_LINK:
                raise traitlets.TraitError(f"a link of {len(proposal['value'])} characters: expected one of a view")
            return proposal["value"]

        def close(self) -> None:
            self._answers.close()
            super().close()

    return ViewWidget
