"""Episodes of labelled and of pseudo objects, mixed: training in which a few labels join many pretend tasks."""

from __future__ import annotations

import math

from torch.utils.data import Dataset

from episodes.episode import Episode, EpisodeKey, Example, Task, build_episode
from episodes.pseudo import PseudoEpisodes
from episodes.supervised import SupervisedEpisodes


class JointEpisodes(Dataset[Episode]):
    """A share ``pseudo_share`` of the episodes of any stretch are of ``pseudo``, the others of ``labelled``.

    In each epoch both parts give their own episodes in their own order. ``dataset[(epoch, index)]`` depends on them,
    epoch and index alone. The objects of ``labelled`` are numbered first, as are its images; ``class_id`` is below 0
    for groups of regions, -1 for group 0. Both parts have the same shots and the same transform.
    """

    def __init__(self, labelled: SupervisedEpisodes, pseudo: PseudoEpisodes, *, pseudo_share: float) -> None:
        self.labelled = labelled
        self.pseudo = pseudo
        self.pseudo_share = pseudo_share
        self.transform = labelled.transform

    def __len__(self) -> int:
        """Number of images that can be a query, counted in each part."""
        return len(self.labelled) + len(self.pseudo)

    def __getitem__(self, key: EpisodeKey) -> Episode:
        return build_episode(self.draw(key), self.example, transform=self.transform)

    @property
    def objects(self) -> int:
        """Number of objects of both parts."""
        return self.labelled.objects + self.pseudo.objects

    def draw(self, key: EpisodeKey) -> Task:
        """The objects of an episode."""
        epoch, index = key
        before = math.floor(index * self.pseudo_share)  # pseudo episodes before this one
        if math.floor((index + 1) * self.pseudo_share) == before:
            return self.labelled.draw((epoch, index - before))
        task = self.pseudo.draw((epoch, before))
        return task._replace(
            objects=tuple(self.labelled.objects + number for number in task.objects),
            class_id=-1 - task.class_id,
            query_index=len(self.labelled.images) + task.query_index,
        )

    def example(self, number: int) -> Example:
        """Image and mask of an object."""
        own = number - self.labelled.objects
        return self.labelled.example(number) if own < 0 else self.pseudo.example(own)
