"""Models that others made: packages of BioImage.IO, MONAI's and nnU-Net's, checkpoints of transformers, and networks as files."""
