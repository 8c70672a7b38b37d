"""What the page can ask for, each as a function of its session."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from util.errors import UserError
from util.images.draw import class_colours
from web.choices import Choices
from web.downloads import masks_as_coco, masks_as_labelme, masks_as_zip
from web.examples import EXAMPLES, load_example
from web.photographs import MOST_BYTES, MOST_PIXELS, Marking
from web.sessions import Session
from web.worker import Worker

# What answers a request: the session, which nobody else uses meanwhile, the request, the bytes that it brings.
Action: TypeAlias = "Callable[[Session, Request, bytes], Response]"

_WORDS = 10_000  # bytes of a request that is neither a file nor a mask
_PHOTOGRAPH = "/photographs/{number:int}"


class Question(NamedTuple):
    """``most_bytes`` is how much a request may bring."""

    method: str
    path: str
    action: Action
    most_bytes: int = _WORDS


def questions(choices: Choices, worker: Worker) -> list[Question]:
    """Everything that the page asks; what changes something is answered with the state after it."""
    state = partial(_state, choices)

    def change(act: Callable[[Session, Request, bytes], None]) -> Action:
        def action(session: Session, request: Request, body: bytes) -> Response:
            act(session, request, body)
            return state(session, request, body)

        return action

    return [
        Question("GET", "/state", state),
        Question("POST", "/photographs", change(_add_photograph), MOST_BYTES),
        Question("DELETE", _PHOTOGRAPH, change(_remove_photograph)),
        Question("GET", _PHOTOGRAPH + "/picture", _picture),
        Question("GET", _PHOTOGRAPH + "/thumbnail", _thumbnail),
        Question("GET", _PHOTOGRAPH + "/mask", _mask),
        Question("PUT", _PHOTOGRAPH + "/mask", change(_annotate), MOST_PIXELS),
        Question("DELETE", _PHOTOGRAPH + "/mask", change(_forget_mask)),
        Question("POST", _PHOTOGRAPH + "/mask-file", _annotate_by_file, MOST_BYTES),
        Question("POST", "/classes", change(_add_class)),
        Question("PUT", "/classes/{number:int}", change(_rename_class)),
        Question("DELETE", "/classes/{number:int}", change(_remove_class)),
        Question("POST", "/examples/{name}", change(_load_example)),
        Question("POST", "/run", change(partial(_start, worker))),
        Question("DELETE", "/run", change(_stop)),
        Question("DELETE", "/session", change(_clear)),
        Question("GET", "/masks.zip", partial(_download, masks_as_zip, "application/zip")),
        Question("GET", "/masks.labelme.zip", partial(_download, masks_as_labelme, "application/zip")),
        Question("GET", "/masks.coco.json", partial(_download, masks_as_coco, "application/json")),
    ]


def name_of(request: Request) -> str:
    """The name that a request gives to what it brings; its header holds it percent-encoded."""
    return unquote(request.headers.get("x-name", ""))


def _state(choices: Choices, session: Session, request: Request, _: bytes) -> Response:
    """All that the page shows but pictures; photographs in the order of their numbers."""
    marking, run = _marking(request), session.run
    colours = class_colours(np.arange(len(session.classes)) + 1).tolist()
    return JSONResponse(
        {
            "networks": [{"key": key, "title": choice.title} for key, choice in choices.all().items()],
            "examples": EXAMPLES,
            "classes": [{"name": name, "colour": rgb} for name, rgb in zip(session.classes, colours, strict=True)],
            "photographs": [
                {
                    **{"number": each.number, "name": each.name, "version": each.version},
                    **{"height": each.size[0], "width": each.size[1]},
                    **{"annotated": each.annotated_classes is not None, "predicted": each.is_predicted},
                    **each.shown(len(session.classes), marking)._asdict(),
                }
                for each in session.photographs.values()
            ],
            "run": run and {"running": run.is_running, "done": run.done, "total": run.total, "error": run.error},
        }
    )


def _add_photograph(session: Session, request: Request, body: bytes) -> None:
    session.add_photograph(name_of(request) or "photograph", body)


def _remove_photograph(session: Session, request: Request, _: bytes) -> None:
    session.remove_photograph(_number(request))


def _picture(session: Session, request: Request, _: bytes) -> Response:
    return Response(session.photograph(_number(request)).picture(), media_type="image/jpeg")


def _thumbnail(session: Session, request: Request, _: bytes) -> Response:
    thumbnail = session.photograph(_number(request)).thumbnail(_marking(request))
    return Response(thumbnail, media_type="image/jpeg")


def _mask(session: Session, request: Request, _: bytes) -> Response:
    """A byte for each pixel, row after row: 0 background, from 1 on the number of a class."""
    mask = session.photograph(_number(request)).mask(_marking(request))
    return Response(mask.tobytes(), media_type="application/octet-stream")


def _annotate(session: Session, request: Request, body: bytes) -> None:
    session.annotate(_number(request), body)


def _annotate_by_file(session: Session, request: Request, body: bytes) -> Response:
    class_number = _whole(request, "class", 1)
    said = session.annotate_by_file(_number(request), name_of(request) or "mask", body, class_number)
    return JSONResponse({"said": said})


def _forget_mask(session: Session, request: Request, _: bytes) -> None:
    session.photograph(_number(request)).forget_mask()


def _add_class(session: Session, request: Request, _: bytes) -> None:
    session.add_class(name_of(request))


def _rename_class(session: Session, request: Request, _: bytes) -> None:
    session.rename_class(_number(request), name_of(request))


def _remove_class(session: Session, request: Request, _: bytes) -> None:
    session.remove_class(_number(request))


def _load_example(session: Session, request: Request, _: bytes) -> None:
    name = request.path_params["name"]
    if name not in EXAMPLES:
        raise UserError(f"{name}: no example; choose one of {', '.join(EXAMPLES)}")
    load_example(session, name)


def _start(worker: Worker, session: Session, request: Request, _: bytes) -> None:
    worker.start(session, request.query_params.get("network"))


def _stop(session: Session, request: Request, _: bytes) -> None:
    session.stop()


def _clear(session: Session, request: Request, _: bytes) -> None:
    session.clear()


def _download(
    write: Callable[[Session, Marking], bytes], media_type: str, session: Session, request: Request, _: bytes
) -> Response:
    headers = {"Content-Disposition": "attachment"}  # the file is called as its address ends
    return Response(write(session, _marking(request)), media_type=media_type, headers=headers)


def _number(request: Request) -> int:
    number: int = request.path_params["number"]
    return number


def _marking(request: Request) -> Marking:
    """``threshold``, ``presence`` and ``min_area`` of the address. Raises ``UserError`` for what is no such number."""
    return Marking(_share(request, "threshold"), _share(request, "presence"), _whole(request, "min_area", 0))


def _share(request: Request, key: str) -> float:
    text = request.query_params.get(key, "0.5")
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise UserError(f"{key}: expected a number from 0 to 1")


def _whole(request: Request, key: str, default: int) -> int:
    text = request.query_params.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{key}: expected a whole number")
    return int(text)
