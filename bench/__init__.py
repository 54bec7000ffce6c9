"""hominy beside NumPy, PyTorch and ONNX Runtime: `pytest bench`, then `python -m bench report`. See bench/README.md."""
