"""The page on which a user says which model to add: a file, a folder or a URL, and what its files do not say themselves."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_segsuite.models.foreign.form import ACTIVATIONS, LAYOUTS
from napari_segsuite.models.foreign.form import Form as Said
from napari_segsuite.viewer.editors import Choice
from napari_segsuite.viewer.form import Form
from napari_segsuite.viewer.panel import Column, quiet_label
from napari_segsuite.viewer.shelf import Wish

HELP = (
    "A package of bioimage.io (zip file, folder or rdf.yaml); a folder of MONAI, nnU-Net, StarDist or transformers; weights of Cellpose or SAM; "
    "a network as .onnx, .pt or .pt2; or a folder with model.json as training writes it; "
    "a path on this computer, or a URL."
)
FILES = "Models (*.zip *.yaml *.yml *.onnx *.pt *.pth *.torchscript *.pt2);;All files (*)"


class AddPage(QWidget):
    """Only asks; the dock does it."""

    asked, closed = Signal(), Signal()

    def __init__(self) -> None:
        super().__init__()
        self.source, self.name, self.sha256 = QLineEdit(), QLineEdit(), QLineEdit()
        self.file, self.folder = QPushButton("File..."), QPushButton("Folder...")
        self.overwrite = QCheckBox("Replace a model of this name")
        self.add, self.close_page = QPushButton("Add"), QPushButton("Back")
        self.more = QToolButton()
        editors = {"axes": Choice(("", "yx", "zyx")), "activation": Choice(("", *ACTIVATIONS)), "layout": Choice(("", *LAYOUTS))}
        self.form: Form[Said] = Form(Said, editors=editors)
        self._lay_out()
        self._connect()
        self._ready()

    def value(self) -> Wish:
        """What is entered.

        Raises
        ------
        OptionError
            Something cannot be read.
        """
        words = (box.text().strip() for box in (self.source, self.name, self.sha256))
        source, name, sha256 = words
        return Wish(source, name, sha256.lower(), self.overwrite.isChecked(), self.form.value())

    def clear(self) -> None:
        """Forget what was entered: it has been added."""
        for box in (self.source, self.name, self.sha256):
            box.clear()
        self.overwrite.setChecked(False)
        self.form.set_value(Said())

    def unfold(self) -> None:
        """Show the fields for what the files do not say."""
        self.more.setChecked(True)

    def _lay_out(self) -> None:
        self.source.setPlaceholderText("file, folder or https://...")
        self.name.setPlaceholderText("as it calls itself")
        self.sha256.setPlaceholderText("not checked")
        self.source.setToolTip(f"<p>{HELP}</p>")
        self.sha256.setToolTip("<p>The sha256 that its makers give for the file: another file is refused.</p>")
        where = QHBoxLayout()
        for button in (self.file, self.folder):
            where.addWidget(button)
        top = QFormLayout()
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        top.setVerticalSpacing(4)
        for label, part in (("Model", self.source), ("", where), ("Name", self.name), ("", self.overwrite), ("SHA-256", self.sha256)):
            top.addRow(label, part)
        self.more.setText("What its files do not say")
        self.more.setToolTip("<p>Needed for a network in a file of its own, and for a package whose answer is not explained.</p>")
        self.more.setCheckable(True)
        self.more.setAutoRaise(True)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        help_text = quiet_label()
        help_text.setText(HELP)
        inner = QWidget()
        inside = QVBoxLayout(inner)
        inside.setContentsMargins(0, 0, 6, 0)
        inside.addWidget(help_text)
        inside.addLayout(top)
        for part in (self.more, self.form, self.form.advanced):
            inside.addWidget(part)
        inside.addStretch(1)
        buttons = QHBoxLayout()
        buttons.addWidget(self.add)
        buttons.addWidget(self.close_page)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Column(inner), 1)
        outer.addLayout(buttons)

    def _connect(self) -> None:
        self.more.toggled.connect(self._fold)
        self.source.textChanged.connect(self._ready)
        self.source.returnPressed.connect(self.add.click)
        self.add.clicked.connect(self.asked)
        self.close_page.clicked.connect(self.closed)
        self.file.clicked.connect(self._browse_file)
        self.folder.clicked.connect(self._browse_folder)
        self._fold(False)

    def _fold(self, opened: bool) -> None:
        self.more.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self.form.setVisible(opened)
        self.form.advanced.setVisible(opened)

    def _ready(self) -> None:
        self.add.setEnabled(bool(self.source.text().strip()))

    def _browse_file(self) -> None:
        if chosen := QFileDialog.getOpenFileName(self, "Model to add", self.source.text(), FILES)[0]:
            self.source.setText(chosen)

    def _browse_folder(self) -> None:
        if chosen := QFileDialog.getExistingDirectory(self, "Folder of a model to add", self.source.text()):
            self.source.setText(chosen)
