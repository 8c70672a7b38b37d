"""Pseudo masks from unlabelled photographs: features, clusters, superpixels, regions (SPEC section 11)."""
