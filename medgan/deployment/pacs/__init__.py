"""A DICOM node: studies of the PACS are scored as they come, and the results go back."""
