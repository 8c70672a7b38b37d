"""Self-supervised pretraining of a small backbone on unlabelled images, for features of one's own (MoCo-v2)."""
