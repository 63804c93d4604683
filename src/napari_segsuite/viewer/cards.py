"""The Models dock: what each model is for, what it was trained on, how good it is, and under which licence."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QListWidget, QSplitter, QTextBrowser, QWidget

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.models import CLASSICAL, folder_of, list_models
from napari_segsuite.types import ModelSpec


class ModelCards(QWidget):
    """Plugins > Segsuite > Models."""

    def __init__(self) -> None:
        super().__init__()
        self.names, self.text = QListWidget(), QTextBrowser()
        self.text.setOpenExternalLinks(True)
        self._specs: list[ModelSpec] = []
        split = QSplitter()
        split.addWidget(self.names)
        split.addWidget(self.text)
        split.setSizes([110, 330])
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(split)
        self.names.currentRowChanged.connect(self._show)
        self._list()

    def _list(self) -> None:
        try:
            self._specs = list_models()
        except SegsuiteError as error:
            self.text.setPlainText(str(error))
        self.names.addItems([spec.name for spec in self._specs])
        self.names.setCurrentRow(0)

    def _show(self, row: int) -> None:
        if 0 <= row < len(self._specs):
            self.text.setMarkdown(card_of(self._specs[row]))


def card_of(spec: ModelSpec) -> str:
    """The model's card in Markdown; made from its description where it came without one."""
    if spec.name not in CLASSICAL:
        path = folder_of(spec.name) / "card.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    lines = {
        "Answers with": f"{spec.task}, {'3D' if spec.axes == 'zyx' else '2D'}; classes {', '.join(c.name for c in spec.classes)}",
        "Channels": ", ".join(spec.channels),
        "Trained on": spec.trained_on,
        "Licence": spec.licence,
        "Please cite": spec.citation,
    }
    return "\n\n".join([f"# {spec.name}", spec.description, *(f"**{k}:** {v}" for k, v in lines.items() if v)])
