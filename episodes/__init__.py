"""Few-shot episodes: folds, image lists, augmentation, supervised and pseudo-labelled episode datasets, loaders."""
