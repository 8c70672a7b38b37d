"""The ground floor: configuration, files, images, seeds, logging, drawing.

Nothing here knows about segmentation; every other room may import from this one.
"""
