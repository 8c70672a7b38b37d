"""The ground floor: configuration, files, images, seeds, logging, drawing.

Nothing here depends on segmentation; every other package may import from this one.
"""
