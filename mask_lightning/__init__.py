"""Multi-task face classification in PyTorch Lightning with fastai's comforts."""

__version__ = "0.1.0"
