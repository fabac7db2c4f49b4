"""Small networks that are trained to judge scans."""
