"""Small networks that are trained to evaluate scans."""
