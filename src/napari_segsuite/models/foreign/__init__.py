"""Models that others made: of BioImage.IO, MONAI, nnU-Net, StarDist, Cellpose and transformers, and networks as files."""
