"""Make the CZI files beside this with ZEISS's own library: python make.py (needs pylibCZIrw, 6.1.0 was used; see README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pylibCZIrw import czi

HERE = Path(__file__).parent
MICROMETRE = 1e-6

INTERVAL = "<T><Positions><Interval><Start>0</Start><Increment>2.5</Increment></Interval></Positions></T>"
SCENES = (
    '<S><Scenes><Scene Index="0" Name="left"><CenterPosition>100,-50</CenterPosition></Scene>'
    '<Scene Index="1" Name="right"><CenterPosition>150,-35</CenterPosition></Scene></Scenes></S>'
)


def add(name: str, dimensions: str) -> None:
    """Put what the library's writer has no words for into the XML, as ZEN does."""
    with czi.edit_czi(str(HERE / name)) as editor, editor.edit_session() as session:
        session.set_xml(session.get_xml().replace("<Dimensions>", f"<Dimensions>{dimensions}", 1))


def planes() -> None:
    """Two time points, two channels and three slices, packed; what a pixel is says where it is."""
    with czi.create_czi(str(HERE / "planes.czi"), exist_ok=True, compression_options="zstd1:ExplicitLevel=3;PreProcess=HiLoByteUnpack") as file:
        for t, c, z in np.ndindex(2, 2, 3):
            y, x = np.indices((16, 24))
            file.write((10000 * t + 5000 * c + 1000 * z + 24 * y + x).astype(np.uint16), plane={"T": int(t), "C": int(c), "Z": int(z)})
        file.write_metadata("planes", {0: "DAPI", 1: "GFP"}, 0.25 * MICROMETRE, 0.25 * MICROMETRE, 1.5 * MICROMETRE)
    add("planes.czi", INTERVAL)


def scenes() -> None:
    """Two scenes of two tiles each; the second tile lies on the last four columns of the first, and two rows lower."""
    with czi.create_czi(str(HERE / "scenes.czi"), exist_ok=True) as file:
        for scene, (left, top) in enumerate([(0, 0), (100, 30)]):
            for tile in range(2):
                file.write(np.full((10, 14), 100 * scene + 10 * tile + 1, np.uint8), (left + 10 * tile, top + 2 * tile), scene=scene)
        file.write_metadata("scenes", {}, 0.5 * MICROMETRE, 0.5 * MICROMETRE)
    add("scenes.czi", SCENES)


def colours() -> None:
    """Red grows downwards, green to the right, blue is 7."""
    y, x = np.indices((10, 14))
    with czi.create_czi(str(HERE / "colours.czi"), exist_ok=True, compression_options="zstd0:ExplicitLevel=3") as file:
        file.write(np.stack([np.full_like(x, 7), 10 * x, 10 * y], axis=-1).astype(np.uint8))  # blue first, as the format has it
        file.write_metadata("colours")


if __name__ == "__main__":
    planes()
    scenes()
    colours()
