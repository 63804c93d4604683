"""Figures measured beside peers, in one run: ``python -m benchmarks NAME`` (``pip install "napari-segsuite[bench]"``)."""
