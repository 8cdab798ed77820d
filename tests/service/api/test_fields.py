"""What a client asks for counts or is refused, wherever it stands: query, fields of forms, JSON, headers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.parameters import JobParameters, PredictParameters
from tests.drawn import Drawn
from tests.server import DEADLINE_SECONDS, MIB, ROOT, Server, problem

PREDICT, PROBE, JOBS = "/v1/predict", "/v1/probe", "/v1/jobs"
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
CASES = ROOT / "tests" / "assets" / "cases"
# No text of a validator, nor of Python.
NOT_OURS = ("Input should", "Value error", "valid ", "parse", "required", "permitted", "pydantic", "NoneType", "<class")
WRONG = ("", "x", "nan", "inf", "-inf", "1e999", "-1", "9" * 400, "true", "[1]", "1_0", "٣", "0x1", "1;2", "1,5")


@pytest.fixture(autouse=True)
def _nothing_stays(server: Server) -> Iterator[None]:
    yield
    server.assert_spool_is_empty()


@pytest.fixture(scope="module")
def blob(clip: Drawn) -> bytes:
    return clip.path.read_bytes()


def form(*fields: tuple[str, str], clip: bytes = b"", file_name: str | None = "c.mp4") -> dict[str, Any]:
    """Fields in this order; `video` stands for the clip."""
    parts = [(name, (file_name, clip) if name == FIELD else (None, value.encode())) for name, value in fields]
    return {"files": parts}


FIELD = "video"
CLIP = (FIELD, "")


def content(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.json().items() if name not in ("request_id", "timing_ms")}


@pytest.mark.parametrize("path", [PREDICT, "/predict"])
def test_fields_count_before_and_after_the_file(client: httpx.Client, blob: bytes, path: str) -> None:
    asked = {"top_k": "2", "end_seconds": "1.0", "window": "4", "stride": "2", "strict": "true"}
    expected = content(client.post(PREDICT, params=asked, files={FIELD: blob}))
    assert (len(expected["predictions"]), expected["receipt"]["window_frames"]) == (2, 4)
    fields = list(asked.items())
    for ordered in ([*fields, CLIP], [CLIP, *fields], [*fields[:3], CLIP, *fields[3:]]):
        assert content(client.post(path, **form(*ordered, clip=blob))) == expected
    some = dict(fields[:2])
    assert content(client.post(path, params=some, **form(CLIP, *fields[2:], clip=blob))) == expected


def test_fields_of_a_probe_count(client: httpx.Client, blob: bytes) -> None:
    answer = client.post(PROBE, **form(CLIP, ("full", "true"), clip=blob)).json()
    assert answer["video"]["walk"]["num_frames"] == 50


def test_fields_of_a_job_count(client: httpx.Client, blob: bytes) -> None:
    for fields in ([("top_k", "2"), CLIP, CLIP], [CLIP, CLIP, ("top_k", "2")]):
        job = client.post(JOBS, **form(*fields, clip=blob), headers={"Idempotency-Key": "of fields"})
        assert job.status_code == 202, job.text
    assert len({line["id"] for line in client.get(JOBS).json()["jobs"]}) == 1, "the order of fields is no difference"
    rows = results(client, job.json()["id"])
    assert [row["id"] for row in rows] == ["c.mp4", "c.mp4 (2)"]
    assert {row["uri"] for row in rows} == {"upload:c.mp4"}
    assert {len(row["predictions"]) for row in rows} == {2}


def results(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    """Once the job has ended; it is forgotten then."""
    while client.get(f"{JOBS}/{job_id}").json()["finished"] is None:
        continue
    lines = client.get(f"{JOBS}/{job_id}/results").text.splitlines()
    client.delete(f"{JOBS}/{job_id}?purge=true").raise_for_status()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("path", [PREDICT, "/predict", PROBE, JOBS])
@pytest.mark.parametrize(
    ("fields", "query", "words"),
    [
        ([("modle", "x"), CLIP], "", "{path} has no parameter modle; did you mean model? It takes model, "),
        ([CLIP, ("modle", "x")], "", "{path} has no parameter modle; did you mean model? It takes model, "),
        ([CLIP, ("qqq", "x")], "", "{path} has no parameter qqq; it takes model, "),
        ([("model", "actions-lstm"), ("model", "b"), CLIP], "", "model is given twice in the form; give it once"),
        ([("model", "actions-lstm"), CLIP, ("model", "b")], "", "model is given twice in the form; give it once"),
        ([CLIP, ("model", "a")], "?model=actions-lstm", "model is given twice in the query and in the form; give it"),
        ([CLIP], "?model=a&model=b", "model is given twice in the query; give it once"),
        ([CLIP], "?modle=a", "POST {path} has no parameter modle; did you mean model? It takes model, "),
        ([CLIP, ("model", "")], "", "model is empty; give a line of text of 1 to 1000 characters"),
        ([CLIP, ("model", "a\nb")], "", "model is 'a\\nb'; give a line of text"),
        ([CLIP, ("model", "x" * 9000)], "", "model has more than 8192 bytes; send a shorter value"),
        ([("model", "x" * 1001), CLIP], "", "…; give a line of text of 1 to 1000 characters"),
    ],
)
def test_a_field_that_can_t_count_is_refused(
    client: httpx.Client, blob: bytes, path: str, fields: list[tuple[str, str]], query: str, words: str
) -> None:
    body = problem(client.post(f"{path}{query}", **form(*fields, clip=blob)), 400, "bad_parameter")
    assert words.format(path=path) in body["detail"]
    assert len(body["detail"]) < 400


@pytest.mark.parametrize("path", [PREDICT, PROBE, JOBS])
def test_a_model_is_looked_up_wherever_it_is_named(client: httpx.Client, blob: bytes, path: str) -> None:
    for fields in ([("model", "nobody"), CLIP], [CLIP, ("model", "nobody")]):
        problem(client.post(path, **form(*fields, clip=blob)), 404, "unknown_model")


def encoded(*fields: tuple[str, bytes], clip: bytes) -> dict[str, Any]:
    """A form of bytes, in this order; `video` stands for the clip."""
    return {"files": [(name, ("c.mp4", clip) if name == FIELD else (None, value)) for name, value in fields]}


@pytest.mark.parametrize("path", [PREDICT, PROBE, JOBS])
@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "iso-8859-1", "windows-1252", "utf-16-le", "Shift_JIS"])
def test_a_form_may_name_the_charset_of_its_texts(client: httpx.Client, blob: bytes, path: str, charset: str) -> None:
    """RFC 7578, 4.6; wherever the field stands."""
    name = "モデル" if charset == "Shift_JIS" else "modèle"
    model, named, clip = ("model", name.encode(charset)), ("_charset_", charset.encode()), (FIELD, b"")
    orders = [[named, model, clip], [clip, model, named]]
    if charset != "utf-16-le":  # whose bytes are ASCII, too, and read as such before the file
        orders.append([model, clip, named])
    for fields in orders:
        body = problem(client.post(path, **encoded(*fields, clip=blob)), 404, "unknown_model")
        assert name in body["detail"]


@pytest.mark.parametrize("path", [PREDICT, PROBE, JOBS])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([("_charset_", b"klingon")], "_charset_ is 'klingon', which is no charset known here; send utf-8"),
        ([("_charset_", b"")], "_charset_ is empty, which is no charset"),
        ([("_charset_", b"hex")], "_charset_ is 'hex', which is no charset"),
        ([("_charset_", b"utf-8\xe9")], "_charset_ is 'utf-8é', which is no charset"),
        ([("_charset_", b"undefined")], "_charset_ is 'undefined', which is no charset"),
        ([("_charset_", b"utf-8"), ("_charset_", b"utf-8")], "_charset_ is given twice in the form; give it once"),
        ([("_charset_", b"utf-8"), ("model", b"mod\xe8le")], "model in the form can't be read as text in utf-8"),
        ([("_charset_", b"ascii"), ("model", b"mod\xe8le")], "model in the form can't be read as text in ascii"),
    ],
)
def test_a_charset_that_can_t_count_is_refused(
    client: httpx.Client, blob: bytes, path: str, fields: list[tuple[str, bytes]], words: str
) -> None:
    clip = (FIELD, b"")
    for ordered in ([*fields, clip], [clip, *fields]):
        body = problem(client.post(path, **encoded(*ordered, clip=blob)), 400, "bad_parameter")
        assert words in body["detail"]


def test_a_charset_of_a_part_goes_before_that_of_its_form(client: httpx.Client, blob: bytes) -> None:
    files: list[tuple[str, Any]] = [
        ("_charset_", (None, b"utf-16")),
        ("model", (None, "modèle".encode("latin-1"), "text/plain; charset=ISO-8859-1")),
        (FIELD, ("c.mp4", blob)),
    ]
    assert "modèle" in problem(client.post(PREDICT, files=files), 404, "unknown_model")["detail"]


def test_a_charset_is_for_forms_alone(client: httpx.Client) -> None:
    body = {"items": [{"uri": "s3://b/1"}], "_charset_": "utf-8"}
    assert "no parameter _charset_" in problem(client.post(JOBS, json=body), 400, "bad_parameter")["detail"]
    assert "no parameter _charset_" in problem(client.post(f"{JOBS}?_charset_=utf-8"), 400, "bad_parameter")["detail"]


def test_what_goes_together_is_held_together_at_the_end(client: httpx.Client, blob: bytes) -> None:
    answer = client.post(PREDICT, params={"stride": "20"}, **form(CLIP, ("window", "32"), clip=blob))
    assert content(answer)["receipt"]["stride_frames"] == 20
    for fields in ([CLIP, ("window", "8"), ("stride", "9")], [("window", "8"), CLIP, ("stride", "9")]):
        body = problem(client.post(PREDICT, **form(*fields, clip=blob)), 400, "bad_parameter")
        assert body["detail"].startswith("stride 9 is more than the window's 8 ticks")
    answer = client.post(PREDICT, params={"start_seconds": "2"}, **form(CLIP, ("end_seconds", "1"), clip=blob))
    detail = problem(answer, 400, "bad_parameter")["detail"]
    assert detail.startswith("end_seconds is 1, start_seconds is 2, and the end must be after the start")


def test_a_stream_is_asked_for_by_its_number(client: httpx.Client) -> None:
    """0 is a thumbnail; 1 is the film, that players take."""
    clip = (CASES / "two.mp4").read_bytes()
    sizes = {None: (320, 240), "0": (160, 120), "1": (320, 240)}
    for number, size in sizes.items():
        request = form(CLIP, *([("stream", number)] if number else []), clip=clip)
        receipt = content(client.post(PREDICT, **request))["receipt"]
        assert (receipt["width"], receipt["height"]) == size
        video = client.post(PROBE, **request).json()["video"]
        assert (video["width"], video["height"], video["stream"]) == (*size, int(number or 1))
        job = client.post(JOBS, **request).json()
        [row] = results(client, job["id"])
        assert (row["receipt"]["width"], row["receipt"]["height"]) == size
    absent = form(CLIP, ("stream", "2"), clip=clip)
    for path in (PREDICT, PROBE):
        assert "no video stream 2; it has 0: " in problem(client.post(path, **absent), 422, "no_such_stream")["detail"]
    [row] = results(client, client.post(JOBS, **absent).json()["id"])
    assert row["code"] == "no_such_stream"


@pytest.mark.parametrize("path", [PREDICT, PROBE, JOBS])
@pytest.mark.parametrize("field", [b'name="model"\r\n\r\nnobody', b'name="windw"\r\n\r\n8'])
def test_a_wrong_field_before_the_file_is_refused_before_the_file_comes(
    server: Server, path: str, field: bytes
) -> None:
    part = b"--b\r\nContent-Disposition: form-data; "
    body = part + field + b"\r\n" + part + b'name="video"; filename="c.mp4"\r\n\r\n' + bytes(2 * MIB)
    lines = {"Host": "h", **BOUNDARY, "Content-Length": str(len(body) + MIB)}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection((server.host, server.port), DEADLINE_SECONDS) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        assert connection.recv(65536).split(b" ")[1] in (b"404", b"400")


@pytest.mark.parametrize("name", ["start_seconds", "end_seconds"])
def test_what_each_item_has_for_itself_belongs_into_the_manifest(client: httpx.Client, blob: bytes, name: str) -> None:
    body = f'{{"items": [{ITEM}], "{name}": 2}}'
    for answer in (
        client.post(JOBS, **form((name, "2"), CLIP, clip=blob)),
        client.post(JOBS, params={name: 2}, **form(CLIP, clip=blob)),
        client.post(JOBS, content=body, headers={"Content-Type": "application/json"}),
    ):
        detail = problem(answer, 400, "bad_parameter")["detail"]
        assert detail.endswith(
            f"has no parameter {name} for all items; give {name} in the manifest, beside each item's uri"
        )
    assert (
        "no parameter start_seconds; "
        in problem(client.post(PROBE, params={"start_seconds": 2}), 400, "bad_parameter")["detail"]
    )


def test_no_value_is_refused_in_the_words_of_a_validator(client: httpx.Client, blob: bytes) -> None:
    """Every number and switch, every wrong value, in the query, before the file, after it, and in JSON."""
    text = {"model", "webhook_url"}
    for name in sorted({*PredictParameters.model_fields, *JobParameters.model_fields} - text):
        for value in WRONG:
            if name == "strict" and value == "true":
                continue
            path = PREDICT if name in PredictParameters.model_fields else JOBS
            for request in (
                {"params": {name: value}, **form(CLIP, clip=blob)},
                form((name, value), CLIP, clip=blob),
                form(CLIP, (name, value), clip=blob),
            ):
                body = problem(client.post(path, **request), 400, "bad_parameter")
                assert body["detail"].startswith(f"{name} is {repr(value[:100]) if value else 'empty'}")
                assert "give " in body["detail"]
                assert [word for word in NOT_OURS if word in body["detail"]] == [], body["detail"]


@pytest.mark.parametrize(
    "value", ["true", "null", "[1]", "{}", "1e999", "-1e999", "NaN", "Infinity", '"x"', "-5", "0.5"]
)
@pytest.mark.parametrize("name", ["top_k", "smoothing", "window"])
def test_no_json_is_refused_in_the_words_of_a_validator(client: httpx.Client, name: str, value: str) -> None:
    if (name, value) == ("window", "null"):
        return
    body = f'{{"items": [{{"uri": "s3://b/1"}}], "{name}": {value}}}'
    answer = client.post(JOBS, content=body, headers={"Content-Type": "application/json"})
    detail = problem(answer, 400, "bad_parameter")["detail"]
    assert detail.startswith(f"{name} is ")
    assert "; give a " in detail
    assert [word for word in NOT_OURS if word in detail] == [], detail


ITEM = '{"uri": "s3://b/1.mp4"}'


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("{", "bad_input", "the body is no JSON: "),
        ("[]", "bad_input", "the JSON body is []; send an object"),
        ("[" * 100_000, "bad_input", "nested too deeply"),
        ("{}", "bad_input", "items is missing; give a list of objects with id, uri"),
        ('{"items": {}}', "bad_input", "items is {}; give a list"),
        ('{"items": [3]}', "bad_input", "items[0] is 3; give an object with id, uri"),
        ('{"items": [{}]}', "bad_input", "items[0].uri is missing; give "),
        (f'{{"items": [{ITEM}, {{"uri": "", "id": "a"}}]}}', "bad_input", "items[1].uri is empty; give "),
        ('{"items": [{"uri": "a", "end_seconds": true}]}', "bad_input", "items[0].end_seconds is true; give a number"),
        (
            '{"items": [{"uri": "a", "stat_seconds": 1}]}',
            "bad_input",
            "no parameter stat_seconds; did you mean start_s",
        ),
        (f'{{"items": [{ITEM}], "top_k": 1, "top_k": 2}}', "bad_parameter", "top_k is given twice in one object"),
        ('{"items": [{"uri": "a", "uri": "b"}]}', "bad_parameter", "uri is given twice in one object of the JSON"),
        (
            f'{{"items": [{ITEM}], "top_k": 1}}',
            "bad_parameter",
            "top_k is given twice in the query and in the JSON body",
        ),
        (f'{{"items": [{ITEM}], "model": "\\ud800"}}', "bad_parameter", "model is '\\ud800'; give a line of text"),
        (f'{{"items": [{ITEM}], "m\\ud800": 1}}', "bad_parameter", "no parameter m\\ud800"),
        (f'{{"items": [{ITEM}], "model": "{"x" * 100_000}"}}', "bad_parameter", "…; give a line of text"),
    ],
)
def test_json_that_can_t_count_is_refused(client: httpx.Client, body: str, code: str, words: str) -> None:
    answer = client.post(f"{JOBS}?top_k=3", content=body, headers={"Content-Type": "application/json"})
    said = problem(answer, 400, code)
    assert words in said["detail"]
    assert len(answer.content) < 1000


def test_the_query_counts_beside_json(client: httpx.Client) -> None:
    body = {"items": [{"uri": "s3://b/1"}], "stride": 20}
    detail = problem(client.post(f"{JOBS}?window=8", json=body), 400, "bad_parameter")["detail"]
    assert detail.startswith("stride 20 is more than the window's 8 ticks")
    problem(client.post(f"{JOBS}?window=32", json=body), 403, "uri_not_allowed")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/models?x=1", "GET /v1/models has no parameter x; it takes none"),
        ("/v1/models/actions-lstm?full", "has no parameter full; it takes none"),
        ("/livez?x", "it takes none"),
        ("/readyz?x=", "it takes none"),
        ("/metrics?name[]=up", "it takes none"),
        ("/v1/jobs?limt=5", "GET /v1/jobs has no parameter limt; did you mean limit? It takes limit"),
        ("/v1/jobs?limit=0", "limit is '0'; give a whole number of jobs from 1 to 1000"),
        ("/v1/jobs?limit=5&limit=6", "limit is given twice in the query; give it once"),
        ("/v1/jobs/a?x=1", "it takes none"),
        ("/v1/jobs/a/results?limit=0", "limit is '0'; give a whole number of rows from 1 to 100000"),
        ("/v1/jobs/a/results?after=-2", "after is '-2'; give a whole number from -1 to 2147483647"),
        ("/v1/jobs/a/results?after=99999999999999999999", "give a whole number from -1 to"),
        ("/v1/jobs/a/results?format=xml", "format is 'xml'; give jsonl or csv or parquet"),
        ("/v1/jobs/a/results?page=2", "has no parameter page; it takes format, after, limit"),
    ],
)
def test_a_parameter_that_a_route_does_not_have(client: httpx.Client, path: str, words: str) -> None:
    assert words in problem(client.get(path), 400, "bad_parameter")["detail"]


def test_a_parameter_that_delete_does_not_have(client: httpx.Client) -> None:
    for query, words in (("purge=soon", "purge is 'soon'; give true or false"), ("pruge=1", "did you mean purge?")):
        assert words in problem(client.delete(f"/v1/jobs/a?{query}"), 400, "bad_parameter")["detail"]


@pytest.mark.parametrize(
    ("path", "headers", "words"),
    [
        (
            PREDICT,
            [("X-Request-Timeout", "1"), ("X-Request-Timeout", "2")],
            "X-Request-Timeout is given twice in the",
        ),
        (PREDICT, [("X-Request-Timeout", "3s")], "X-Request-Timeout is '3s'; give a number of seconds above 0"),
        (PROBE, [("X-Request-Timeout", "1")], "POST /v1/probe takes no X-Request-Timeout; leave it out"),
        (JOBS, [("X-Request-Timeout", "1")], "POST /v1/jobs takes no X-Request-Timeout; leave it out"),
        (PREDICT, [("Idempotency-Key", "a")], "POST /v1/predict takes no Idempotency-Key; leave it out"),
        (JOBS, [("Idempotency-Key", "a"), ("Idempotency-Key", "b")], "Idempotency-Key is given twice in the headers"),
        (JOBS, [("Idempotency-Key", "")], "Idempotency-Key is empty; give a line of text of 1 to 255 characters"),
        (JOBS, [("Idempotency-Key", "x" * 256)], "give a line of text of 1 to 255 characters"),
    ],
)
def test_headers_of_ours(
    client: httpx.Client, blob: bytes, path: str, headers: list[tuple[str, str]], words: str
) -> None:
    request = client.build_request("POST", path, headers=headers, files={FIELD: blob})
    assert words in problem(client.send(request), 400, "bad_parameter")["detail"]


PART = b'--b\r\nContent-Disposition: form-data; name="video"'


def raw(disposition: bytes, clip: bytes = b"x") -> bytes:
    return PART + disposition + b"\r\n\r\n" + clip + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"; filename*=UTF-8''%e2%82%ac.mp4",
        b"; filename*=iso-8859-1'en'%A3.mp4",
        b"; filename=\"c.mp4\"; filename*=UTF-16''x",
        b'; filename="\xe9t\xe9.mp4"',
        b'; filename=""',
        b"\r\nContent-Type: video/mp4",
        b"\r\nContent-Type: application/octet-stream",
        b'; filename="c.mp4"\r\nContent-Transfer-Encoding: binary',
    ],
)
def test_a_file_however_it_is_named(client: httpx.Client, blob: bytes, head: bytes) -> None:
    expected = content(client.post(PREDICT, files={FIELD: blob}))
    assert content(client.post(PREDICT, content=raw(head, blob), headers=BOUNDARY)) == expected


def test_a_form_that_has_the_extended_name_alone(client: httpx.Client) -> None:
    body = (CASES / "fs.bin").read_bytes()
    assert content(client.post(PREDICT, content=body, headers=BOUNDARY))["predictions"]
    job = client.post(JOBS, content=body, headers=BOUNDARY)
    assert [row["id"] for row in results(client, job.json()["id"])] == ["€.mp4"]


@pytest.mark.parametrize("path", [PREDICT, PROBE, JOBS])
@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (raw(b"; filename*=KOI8-R''x.mp4"), "malformed_upload", "not UTF-8''… of RFC 8187; send a plain filename="),
        (raw(b"; filename*=UTF-8''%ff"), "malformed_upload", "send a plain filename="),
        (raw(b"; filename*=x.mp4"), "malformed_upload", "send a plain filename="),
        (raw(b"; filename*=UTF-8''a%00b"), "malformed_upload", "without a zero byte"),
        (raw(b'; filename="a"\r\nContent-Transfer-Encoding: base64'), "malformed_upload", "'base64', which RFC 7578 g"),
        (raw(b'; filename=""', b""), "no_file", "no file was chosen"),
        (raw(b""), "no_file", "holds text, not a file"),
        (b"--b--\r\n", "no_file", "the form has no file in the field 'video'"),
        (raw(b"").replace(b' name="video"', b""), "malformed_upload", "a part of the form has no name"),
        (raw(b'; filename="a"').replace(b"video", b"clip"), "no_file", "a file in the field 'clip'; send the clip in"),
        (raw(b'; filename="a"').replace(b"video", b"model"), "bad_parameter", "model is a file in the form; send it"),
        (
            raw(b"\r\nContent-Type: text/plain; charset=utf-16").replace(b"video", b"model"),
            "bad_parameter", "model in the form can't be read as text in utf-16; send it in UTF-8",
        ),
        (raw(b"", b"\xff").replace(b"video", b"model"), "bad_parameter", "can't be read as text in utf-8"),
    ],
)  # fmt: skip
def test_a_form_that_can_t_be_taken(client: httpx.Client, path: str, body: bytes, code: str, words: str) -> None:
    if b'"model"' in body and b"filename" not in body:  # it ends without a file, which is told first
        body = body.replace(b"--b--", PART + b'; filename="a"\r\n\r\nx\r\n--b--')
    assert words in problem(client.post(path, content=body, headers=BOUNDARY), 400, code)["detail"]


@pytest.mark.parametrize("path", [PREDICT, PROBE, JOBS])
def test_a_body_that_is_packed(client: httpx.Client, path: str, blob: bytes) -> None:
    answer = client.post(path, files={FIELD: blob}, headers={"Content-Encoding": "gzip"})
    assert "Content-Encoding 'gzip' is not accepted" in problem(answer, 415, "unsupported_media_type")["detail"]


def test_a_manifest_in_other_letters(client: httpx.Client) -> None:
    answer = client.post(JOBS, content=b"uri\n", headers={"Content-Type": "text/csv; charset=latin-1"})
    assert "charset='latin-1'" in problem(answer, 415, "unsupported_media_type")["detail"]


def test_one_page_of_files_with_one_name(client: httpx.Client, blob: bytes) -> None:
    """As phones send them; the rows come as the files did, and no id is another's."""
    names = ["IMG.mp4", "b.mp4", "IMG.mp4", "IMG.mp4 (2)", "IMG.mp4"]
    job = client.post(JOBS, files=[(FIELD, (name, blob)) for name in names]).json()
    rows = results(client, job["id"])
    assert [row["uri"] for row in rows] == [f"upload:{name}" for name in names]
    assert [row["id"] for row in rows] == ["IMG.mp4", "b.mp4", "IMG.mp4 (2)", "IMG.mp4 (2) (2)", "IMG.mp4 (3)"]


def test_jobs_leave_nothing_of_a_refused_form(server: Server, client: httpx.Client, blob: bytes) -> None:
    uploads: Path = server.spool_dir.parent / "jobs" / "uploads"
    before = {path.name for path in uploads.iterdir()} if uploads.exists() else set()
    problem(client.post(JOBS, **form(CLIP, CLIP, ("windw", "3"), clip=blob)), 400, "bad_parameter")
    assert {path.name for path in uploads.iterdir()} <= before


def test_the_documentation_has_forms_with_the_query_s_names(client: httpx.Client) -> None:
    """Each with its unit in words, and never null: a field is there or not."""
    described = client.get("/openapi.json").json()
    for path in (PREDICT, PROBE, JOBS):
        operation = described["paths"][path]["post"]
        query = {each["name"]: each for each in operation["parameters"] if each["in"] == "query"}
        schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        if reference := schema.get("$ref"):
            schema = described["components"]["schemas"][reference.rpartition("/")[2]]
        fields = schema["properties"]
        assert fields.keys() - {FIELD} == query.keys()
        for name, each in query.items():
            assert fields[name]["description"] == each["description"]
            assert "null" not in json.dumps(fields[name])


def test_the_documentation_names_units(client: httpx.Client) -> None:
    """Of every number of every route; the places of an item and of a stream, and a score, have none."""
    paths = client.get("/openapi.json").json()["paths"]
    without = set()
    for operation in (operation for path in paths.values() for operation in path.values()):
        for each in operation.get("parameters", []):
            kinds = [each["schema"], *each["schema"].get("anyOf", [])]
            if {kind.get("type") for kind in kinds} & {"integer", "number"}:
                unit = each["schema"].get("x-unit") or ("seconds" if each["name"].endswith("_seconds") else None)
                if unit is None:
                    without.add(each["name"])
                else:
                    assert unit in each["description"].lower(), each
    assert without == {"min_score", "after", "stream"}
