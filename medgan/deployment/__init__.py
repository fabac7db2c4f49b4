"""Models at work in a hospital: a server, a node of the PACS, packages to install."""
