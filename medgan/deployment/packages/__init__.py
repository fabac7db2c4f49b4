"""Packages of a model to install elsewhere: a MONAI bundle, ONNX files, an offline folder."""
