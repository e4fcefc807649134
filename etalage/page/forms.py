"""What shoppers send: forms, of which only so much is read."""

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.types import Message

from etalage.errors import BodyTooLarge

UPLOAD_BYTES = 10_000_000
"""Of a photo: base64 of it still fits the body that a server takes unless told otherwise."""
FORM_BYTES = 64_000
"""Of a form beside its photo."""
DRAINED_BYTES = 100_000_000
"""So much is read and thrown away: whoever is cut off while sending sees no answer."""


async def read_form(request: Request, most: int) -> FormData:
    """The fields of a form whose body has at most `most` bytes. Raises BodyTooLarge; HTTPException (400):
    it is no form."""
    body = await _read(request, most)

    async def replay() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return await Request(request.scope, replay).form(max_files=1, max_fields=32)


async def _read(request: Request, most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > DRAINED_BYTES:
            break
        if size > most:
            chunks.clear()
        else:
            chunks.append(chunk)
    if size > most:
        raise BodyTooLarge(f"more than {most:,} bytes")
    return b"".join(chunks)


def text_of(form: FormData, name: str) -> str:
    """A field's text; "" where there is none."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


async def file_of(form: FormData, name: str) -> bytes:
    """A field's file; b"" where none was chosen."""
    value = form.get(name)
    return b"" if value is None or isinstance(value, str) else await value.read()
