"""Models that others made: BioImage.IO packages, and networks as TorchScript, ONNX or torch.export files."""
