"""DICOM in: files become frames, frames series, series volumes or refusals."""
