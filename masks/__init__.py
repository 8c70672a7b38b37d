"""Pseudo masks from unlabelled images: features, clusters, superpixels, regions (docs/method.md, section 11)."""
