"""Pseudo masks from unlabelled photographs: features, clusters, superpixels, regions (docs/method.md, section 11)."""
