"""Points and pictures for TensorBoard."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import image, scalar

from util.distributed import rank
from util.files import make_folder, name_errors

_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")


class EventFile:
    """A file of its own in ``folder`` for what a process adds, made when that is the first point.

    Of several processes that train together only the first writes one.

    TensorBoard drops the points that earlier files of the folder have from ``first_iteration`` on. Not tensorboardX's
    ``SummaryWriter``: its ``flush`` leaves out what its queue still holds.
    """

    def __init__(self, folder: Path, first_iteration: int) -> None:
        self.folder = folder
        self.first_iteration = first_iteration
        self._writer: RecordWriter | None = None

    def add_scalar(self, name: str, value: float, iteration: int) -> None:
        self._add(scalar(name, value), iteration)

    def add_picture(self, name: str, picture: np.ndarray, iteration: int) -> None:
        """``picture`` is (H, W, 3) uint8."""
        self._add(image(name, picture, dataformats="HWC"), iteration)

    def flush(self) -> None:
        """Return when all that was added is on the disk."""
        if self._writer is not None:
            with name_errors(Path(self._writer.path)):
                self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            with name_errors(Path(self._writer.path)):
                self._writer.close()

    def _add(self, summary: Summary, iteration: int) -> None:
        if rank() > 0:
            return
        is_first = self._writer is None
        self._writer = self._writer or self._begin()
        with name_errors(Path(self._writer.path)):
            self._writer.write(_record(summary=summary, step=iteration))
        if is_first:
            self.flush()  # a process that is killed leaves no empty file

    def _begin(self) -> RecordWriter:
        make_folder(self.folder)
        writer = RecordWriter(str(self.folder / f"events.out.tfevents.{self._number()}.{socket.gethostname()}"))
        writer.write(_record(file_version="brain.Event:2"))
        writer.write(_record(session_log=SessionLog(status=SessionLog.START), step=self.first_iteration))
        return writer

    def _number(self) -> int:
        """The time in seconds, by which TensorBoard orders the files, or a later one where the clock was set back."""
        earlier = [int(name[1]) for path in self.folder.iterdir() if (name := _NAME.match(path.name)) is not None]
        return max(int(time.time()), *(number + 1 for number in earlier), 0)


def _record(**fields: Any) -> bytes:
    record: bytes = Event(wall_time=time.time(), **fields).SerializeToString()
    return record
