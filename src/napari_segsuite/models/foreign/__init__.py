"""Models that others made: BioImage.IO packages, MONAI bundles, results of nnU-Net, SegFormer, and networks as TorchScript, ONNX or torch.export."""
